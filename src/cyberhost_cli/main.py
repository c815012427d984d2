"""Entry point: finds the command, runs it, and ends with an exit code and, after an error, one line on stderr.

Only the module of the command that was typed is imported, so `--help`, `--version` and a mistyped option answer at
once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from cyberhost_cli.exit_status import ExitStatus, Interrupted, Terminated, describe, epilog, status_of
from cyberhost_cli.terminal import announce, open_standard_streams, tell
from cyberhost_model.errors import OutputError

if TYPE_CHECKING:
    import typer

PROGRAM = "cyberhost"
OUTPUTS = ("-o", "--output", "--run", "--report")
"""Options that name a file or a folder to write, of all commands."""
SPINS = "5000"
"""How often an OpenMP thread looks for more work before it sleeps.

OpenMP's own 300,000 take time from the other threads where a core has something else to do too: six times as slow on
two cores (docs/reference/performance.md).
"""


class Entry(NamedTuple):
    """Where a command lives and what the list of commands says about it. `attribute` is a function or a Typer app."""

    module: str
    attribute: str
    help: str


# A new command is one line here. Its module is imported only when the command is called.
COMMANDS: dict[str, Entry] = {
    "animate": Entry("cyberhost_cli.generate", "animate", "Make the person in a picture speak."),
    "reenact": Entry("cyberhost_cli.generate", "reenact", "Make the person in a picture move as one in a video."),
    "multimodal": Entry("cyberhost_cli.generate", "multimodal", "Speech for the lips, a template for the hands."),
    "dub": Entry("cyberhost_cli.generate", "dub", "Make the lips in a video follow another speech."),
    "live": Entry("cyberhost_cli.live", "live", "Make the person in a picture speak what is being said."),
    "batch": Entry("cyberhost_cli.batch", "batch", "Make the videos of a list, with one loaded model."),
    "serve": Entry("cyberhost_cli.serve", "serve", "Make videos over HTTP, with one loaded model."),
    "ui": Entry("cyberhost_cli.serve", "ui", "Make videos on a page in the browser."),
    "inspect": Entry("cyberhost_cli.marks", "inspect", "Say by which marks a file says that it is made."),
    "rerun": Entry("cyberhost_cli.marks", "rerun", "Make the video of a record again, and compare its frames."),
    "template": Entry("cyberhost_cli.template", "app", "Make and show gesture templates."),
    "doctor": Entry("cyberhost_cli.doctor", "doctor", "Check whether videos can be made here, and estimate the time."),
    "eval": Entry("cyberhost_cli.evaluate", "app", "Measure videos by the paper's metrics; compare runs."),
    "train": Entry("cyberhost_cli.train", "app", "Train a model, stage by stage."),
    "data": Entry("cyberhost_cli.data", "app", "Make training data."),
    "weights": Entry("cyberhost_cli.weights", "app", "Fetch, check, convert and publish weights."),
}


def main(argv: list[str] | None = None) -> int:
    """Run `cyberhost` with these arguments (default: those of the process) and return the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    open_standard_streams()
    try:
        announce(arguments)
        import typer  # late: the line that a long command begins with comes before everything else
    except (KeyboardInterrupt, MemoryError, ImportError) as error:
        return _report(error)
    if "OMP_WAIT_POLICY" not in os.environ:  # GOMP_SPINCOUNT would outweigh the user's own choice
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        with _SigtermRaises():
            check_named(arguments)
            returned = typer.main.get_command(build_app(arguments)).main(
                args=arguments, prog_name=PROGRAM, standalone_mode=False
            )
            sys.stdout.flush()
        # Without standalone mode a `typer.Exit(code)` comes back as that number, and everything else as None.
        if returned == ExitStatus.INTERRUPTED:  # Typer turned a KeyboardInterrupt into Exit(130)
            raise KeyboardInterrupt
        return int(returned) if isinstance(returned, int) else int(ExitStatus.OK)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except typer.Abort:
        return _report(KeyboardInterrupt())
    except BrokenPipeError:  # the reader of our output has gone, as in `cyberhost --help | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.ERROR
    except (KeyboardInterrupt, Interrupted, Terminated) as stop:
        return _report(stop)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "show"):  # a usage error of the parser
            return _report_usage(error)
        if "--debug" in arguments:
            import traceback

            traceback.print_exc()
        return _report(error)


def build_app(arguments: list[str]) -> typer.Typer:
    """Build the application: the command named in `arguments` in full, the others as names for the list."""
    import typer

    wanted = next((word for word in arguments if not word.startswith("-")), None)
    app = typer.Typer(
        name=PROGRAM,
        help="One picture and a recording of speech become a video of that person speaking.",
        epilog=epilog(),
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: quicker, and the same text everywhere
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(value: bool) -> None:
        if value:
            _print_version()
            raise typer.Exit

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Show the version and exit."
        ),
    ) -> None:
        pass

    for name, entry in COMMANDS.items():
        target = load(entry) if name == wanted else _name_only
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name, help=entry.help)
        else:
            app.command(name, short_help=entry.help)(target)
    return app


def check_named(arguments: list[str]) -> None:
    """Raise OutputError for an output without a name, which would otherwise be the current folder."""
    for flag, value in zip(arguments, arguments[1:], strict=False):
        if flag in OUTPUTS and not value.strip():
            raise OutputError(f"{flag} names nothing; give the name of a file or a folder")
    for flag in OUTPUTS:
        if f"{flag}=" in arguments:
            raise OutputError(f"{flag} names nothing; give the name of a file or a folder")


def load(entry: Entry) -> Callable[..., Any] | typer.Typer:
    """Import a command."""
    return getattr(importlib.import_module(entry.module), entry.attribute)


def _name_only() -> None:
    """Stand in the list of commands for one that was not typed; it is never run."""


def _print_version() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        print(f"{PROGRAM} {version(PROGRAM)}")
    except PackageNotFoundError:
        print(f"{PROGRAM} (not installed)")


def _report(error: BaseException) -> int:
    tell(f"{PROGRAM}: {describe(error)}")
    return int(status_of(error))


def _report_usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    # The message of a group called without a command is its whole help.
    bare = type(error).__name__ == "NoArgsIsHelpError"
    message = "Missing command." if bare else " ".join(error.format_message().split())
    tell(f"{PROGRAM}: {message} (see '{path} --help')")
    return int(ExitStatus.USAGE)


class _SigtermRaises:
    """While inside, SIGTERM raises `Terminated` in the main thread, so that files are cleaned up as on an error."""

    def __enter__(self) -> None:
        self.before: Any = None
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGTERM, _raise_terminated)

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not stop the clean-up
    raise Terminated
