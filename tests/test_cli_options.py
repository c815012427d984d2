"""Options of commands: none is lost unnoticed, and a field of a dataclass with its metadata is all that one takes."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cyberhost_cli import main as cli
from cyberhost_cli.console import Console
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_cli.options import Changes, bind_options, expand_options
from cyberhost_cli.train import StageOptions
from cyberhost_model import InputError, config
from cyberhost_model.config import GenerationConfig, RuntimeConfig
from cyberhost_model.lab.training.settings import LoopConfig
from cyberhost_model.options import check_options, option, options_of

FROZEN = Path(__file__).with_name("cli_options.txt")


def lines_of(name: str, command: Any) -> list[str]:
    """ "animate REF AUDIO --output/-o ...", a line for the command and each below it."""
    if hasattr(command, "commands"):
        return [line for inner, below in command.commands.items() for line in lines_of(f"{name} {inner}", below)]
    words = ["/".join((*p.opts, *p.secondary_opts)) if p.opts[0].startswith("-") else p.name for p in command.params]
    return [" ".join((f"{name}:", *words))]


def test_no_option_is_lost_or_renamed_unnoticed() -> None:
    """Where this fails on purpose, tests/cli_options.txt takes the new lines, and a lost name goes to CHANGELOG.md."""
    lines = []
    for name in cli.COMMANDS:
        lines += lines_of(name, typer.main.get_command(cli.build_app([name])).commands[name])  # type: ignore[attr-defined]
    assert lines == FROZEN.read_text(encoding="utf-8").splitlines()


@dataclass(frozen=True)
class Blinking(GenerationConfig):
    """What a package of somebody else's might add."""

    blink: float = option(0.5, "How often the eyes close.", metavar="X", min=0, max=1)
    eyes: str = option("both", "Which eyes.", choices=("both", "left"))
    parts: list[str] = option([], "May be repeated.", choices=("lid", "brow"))
    pause_seconds: float = option(60.0, "Minutes between.", "--pause", "-p", min=0, scale=60)
    slow: bool = option(False, "Slowly.")


def run(command: Any, *words: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(expand_options(command))
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "NO_COLOR": "1"})
    return result.exit_code, result.output


def test_a_field_of_a_dataclass_from_elsewhere_is_an_option() -> None:
    given: list[Blinking] = []

    def command(settings: Blinking, *, console: Console) -> None:
        given.append(settings)

    assert run(command)[0] == 0 and given[-1] == Blinking()
    words = (
        "--blink 0.25 --eyes left --parts lid --parts brow -p 2 --slow --steps 3 --guidance-interval 0.2,0.8".split()
    )
    assert run(command, *words)[0] == 0
    expected = Blinking(
        steps=3,
        guidance_interval=(0.2, 0.8),
        blink=0.25,
        eyes="left",
        parts=["lid", "brow"],
        pause_seconds=120.0,
        slow=True,
    )
    assert given[-1] == expected and type(given[-1].eyes) is str
    code, shown = run(command, "--help")
    assert code == 0 and "--blink" in shown and "How often the eyes close." in shown and "0<=x<=1" in shown
    for wrong in (["--blink", "1.5"], ["--eyes", "right"], ["--guidance-interval", "0.8,0.2"], ["--no-slow"]):
        assert run(command, *wrong)[0] == ExitStatus.USAGE
    with pytest.raises(InputError, match="blink must be between 0 and 1, not 1.5"):
        Blinking(blink=1.5)
    with pytest.raises(InputError, match="eyes must be both or left, not 'right'"):
        Blinking(eyes="right")
    with pytest.raises(InputError, match="parts must be lid or brow"):
        Blinking(parts=["nose"])


def test_changes_are_what_was_typed() -> None:
    given: list[dict[str, Any]] = []

    def command(changes: Changes[LoopConfig]) -> None:
        given.append(changes.values)
        assert changes.apply(LoopConfig(7, workers=3)).workers == 3

    assert run(command)[0] == 0 and given[-1] == {}
    words = "--threads 2 --no-gradient-checkpointing --save-minutes 2 --report wandb --optimizer adamw8bit".split()
    assert run(command, *words)[0] == 0
    assert given[-1] == {
        "threads": 2,
        "gradient_checkpointing": False,
        "save_seconds": 120.0,
        "report": ["wandb"],
        "optimizer": "adamw8bit",
    }
    assert not any(isinstance(value, Enum) for value in given[-1].values())


def test_a_recipe_is_kept_where_nothing_was_typed(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[loop]\nthreads = 3\nminutes = 5\n[audio]\nsteps = 9\n")
    loop, _ = StageOptions(config=str(recipe)).recipe("audio")
    changed: LoopConfig = Changes({"minutes": 0.0}).apply(loop)
    assert (loop.threads, loop.minutes) == (3, 5) and (changed.threads, changed.minutes, changed.steps) == (3, 0.0, 9)


def test_options_that_are_bound_are_gone() -> None:
    given: list[tuple[int, Blinking]] = []

    @expand_options
    def command(number: int, settings: Blinking) -> None:
        """Say nothing."""
        given.append((number, settings))

    app = typer.Typer()
    app.command()(bind_options(command, "Blink.", number=3, blink=1.0))
    runner = CliRunner()
    assert runner.invoke(app, ["--steps", "2"]).exit_code == 0 and given == [(3, Blinking(steps=2, blink=1.0))]
    assert runner.invoke(app, ["--blink", "1"]).exit_code == ExitStatus.USAGE
    assert "Blink." in runner.invoke(app, ["--help"]).output


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fps": 61}, "fps must be between 1 and 60, not 61"),
        ({"fps": float("nan")}, "fps must be between 1 and 60, not nan"),
        ({"steps": "many"}, "steps must be between 1 and 1000, not 'many'"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"fps": None}, "fps must be between 1 and 60, not None"),
    ],
)
def test_bounds_hold_without_a_command_line(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        GenerationConfig(**wrong)


def test_a_device_that_is_none_of_the_choices() -> None:
    with pytest.raises(InputError, match="device must be auto, cpu, cuda or mps, not 'tpu'"):
        RuntimeConfig(device="tpu")


def test_options_of_a_video_are_keywords_of_the_library() -> None:
    """`Settings`, which editors show for `animate(...)`, names every field."""
    source = Path(config.__file__).read_text(encoding="utf-8")
    block = source[source.index("class DenoisingKeywords(TypedDict") : source.index("class DenoisingConfig")]
    names = [entry.name for entry in fields(GenerationConfig)]
    assert names == list(options_of(GenerationConfig)) == re.findall(r"^        (\w+): ", block, re.MULTILINE)


def test_what_has_no_bounds_is_not_checked() -> None:
    @dataclass
    class Free:
        text: str = option(MISSING, "Anything.")
        plain: int = 3

    check_options(Free("words", -1))
    assert list(options_of(Free)) == ["text"]
