"""The command line around the model: help, versions, exit codes, bad input that is found before any model is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from cyberhost_cli import main as cli
from cyberhost_cli.exit_status import ENDINGS, ExitStatus, Terminated, describe, status_of
from cyberhost_model import errors

ROOT = Path(__file__).resolve().parents[1]


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_exit_codes_are_those_of_the_errors_and_documented() -> None:
    codes = {int(code) for code in ExitStatus}
    document = (ROOT / "docs" / "user" / "errors.md").read_text(encoding="utf-8")
    for kind in subclasses(errors.CyberHostError):
        assert kind.exit_code in codes and status_of(kind()) == kind.exit_code
        assert f"`{kind.__name__}`" in document
    for code in ExitStatus:
        assert f"| {int(code)} | {code.name} |" in document
    assert set(ENDINGS) == set(ExitStatus)
    told = [status_of(error) for error in (KeyboardInterrupt(), Terminated(), MemoryError(), KeyError())]
    assert told == [130, 143, ExitStatus.RESOURCE, ExitStatus.ERROR]


def test_help_and_version_are_quick_and_load_no_torch(command: list[str]) -> None:
    spent = []
    for _ in range(3):  # processor time: the clock on the wall also counts what else the machine does
        start = os.times()
        run = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
        end = os.times()
        spent.append(end.children_user + end.children_system - start.children_user - start.children_system)
    assert "animate" in run.stdout and "143" in run.stdout
    assert min(spent) < 0.4
    probe = (
        "import sys; from cyberhost_cli.main import main; import cyberhost_model.errors\n"
        "commands = ('--help', 'animate --help', 'doctor --help', 'train run --help', 'data --help')\n"
        "commands += ('serve --help', '--version')\n"
        "codes = [main(command.split()) for command in commands]\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'fastapi', 'uvicorn'} & set(sys.modules)\n"
        "sys.exit(f'{codes} {heavy}' if heavy or any(codes) else 0)"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].startswith("cyberhost ")


@pytest.mark.parametrize(
    ("chosen", "spins"), [({}, cli.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)]
)
def test_threads_sleep_soon_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], spins: str | None
) -> None:
    """Two threads that wait for each other by spinning take six times as long beside another program."""
    monkeypatch.setattr(os, "environ", chosen.copy())
    assert cli.main(["--version"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_docs_are_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import cli_docs

    written = cli_docs.DOCUMENT.read_text(encoding="utf-8")
    if f"with typer {cli_docs.typer_version()};" in written:
        assert written == cli_docs.document(), "run scripts/cli_docs.py"
    assert cli_docs.options(written) - {"--help"} == cli_docs.options(cli_docs.document()) - {"--help"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["--nope"],
        ["animate"],
        ["animate", "a", "b"],
        ["animate", "a", "b", "-o", "c.mp4", "--steps", "x"],
    ],
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == ExitStatus.USAGE
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "--help" in shown.err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--steps", "0"), ("--fps", "0"), ("--fps", "61"), ("--size", "12"), ("--device", "tpu"), ("--seed", "-1")],
)
def test_values_out_of_range(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["animate", "a.png", "b.wav", "-o", "c.mp4", option, value]) == ExitStatus.USAGE
    assert option in capsys.readouterr().err


Case = Callable[[Path], None]


def text_picture(folder: Path) -> None:
    (folder / "ref.png").write_text("no picture")


def tiny_picture(folder: Path) -> None:
    Image.new("RGB", (1, 1)).save(folder / "ref.png")


def bomb(folder: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(folder / "ref.png")


def cut_picture(folder: Path) -> None:
    data = (folder / "ref.png").read_bytes()
    (folder / "ref.png").write_bytes(data[: len(data) // 2])


def empty_sound(folder: Path) -> None:
    (folder / "speech.wav").write_bytes(b"")


def no_samples(folder: Path) -> None:
    soundfile.write(str(folder / "speech.wav"), np.zeros((0, 1)), 16_000)


def corrupt_sound(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, 50_000, dtype=np.uint8)
    (folder / "speech.wav").write_bytes(noise.tobytes())


def text_sound(folder: Path) -> None:
    (folder / "speech.wav").write_text("no sound " * 100)


def not_numbers(folder: Path) -> None:
    soundfile.write(str(folder / "speech.wav"), np.full(1600, np.nan), 16_000, subtype="FLOAT")


INPUT_CASES: dict[str, tuple[Case, str]] = {
    "missing picture": (lambda f: (f / "ref.png").unlink(), "ref.png: no such picture"),
    "missing sound": (lambda f: (f / "speech.wav").unlink(), "speech.wav: no such sound"),
    "text named .png": (text_picture, "not a picture"),
    "1x1 picture": (tiny_picture, "1x1"),
    "400 megapixels": (bomb, "128 megapixels"),
    "cut picture": (cut_picture, "damaged"),
    "empty sound": (empty_sound, "0 bytes"),
    "sound without samples": (no_samples, "0 samples"),
    "corrupt sound": (corrupt_sound, "not a sound file"),
    "text named .wav": (text_sound, "not a sound file"),
    "NaN samples": (not_numbers, "not numbers"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a picture and a sound that are fine."""
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(tmp_path / "ref.png")
    soundfile.write(str(tmp_path / "speech.wav"), 0.1 * np.sin(np.arange(8000) / 9), 16_000)
    return tmp_path


def animate(folder: Path, *options: str, out: str = "out.mp4") -> int:
    return cli.main(["animate", str(folder / "ref.png"), str(folder / "speech.wav"), "-o", str(folder / out), *options])


def one_line(capsys: pytest.CaptureFixture[str], words: str) -> None:
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1 and shown.err.startswith("cyberhost: ") and words in shown.err, shown.err


@pytest.mark.parametrize("name", INPUT_CASES)
def test_bad_input(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, words = INPUT_CASES[name]
    spoil(folder)
    before = sorted(folder.iterdir())
    assert animate(folder, "--json") == ExitStatus.INPUT
    one_line(capsys, words)
    assert sorted(folder.iterdir()) == before


def test_bad_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert animate(folder, out="none/out.mp4") == ExitStatus.OUTPUT
    one_line(capsys, "does not exist")
    assert animate(folder, out="out.gif") == ExitStatus.OUTPUT
    one_line(capsys, "must end in")
    (folder / "old.mp4").write_text("old")
    assert animate(folder, out="old.mp4") == ExitStatus.OUTPUT
    one_line(capsys, "--overwrite")
    assert (folder / "old.mp4").read_text() == "old"
    if os.name == "posix" and os.geteuid() == 0 and Path("/proc").is_dir():
        assert animate(folder, out="/proc/out.mp4") == ExitStatus.OUTPUT
        one_line(capsys, "cannot be written")
    elif os.name == "posix":
        (folder / "locked").mkdir(mode=0o500)
        assert animate(folder, out="locked/out.mp4") == ExitStatus.OUTPUT
        one_line(capsys, "cannot be written")


def test_output_that_is_the_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "speech.wav").rename(folder / "film.mp4")
    before = (folder / "film.mp4").read_bytes()
    film = str(folder / "film.mp4")
    assert cli.main(["animate", str(folder / "ref.png"), film, "-o", film, "--overwrite"]) == ExitStatus.OUTPUT
    one_line(capsys, "is the input itself")
    assert (folder / "film.mp4").read_bytes() == before


def test_unforeseen_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd_command.py").write_text(
        "def fail(debug: bool = False, memory: bool = False) -> None:\n"
        "    raise MemoryError if memory else ZeroDivisionError('a\\nb')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(cli.COMMANDS, "odd", cli.Entry("odd_command", "fail", ""))
    assert cli.main(["odd"]) == ExitStatus.ERROR
    one_line(capsys, "--debug")
    assert cli.main(["odd", "--debug"]) == ExitStatus.ERROR
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "ZeroDivisionError" in shown
    assert cli.main(["odd", "--memory"]) == ExitStatus.RESOURCE
    one_line(capsys, "memory")


def test_the_reader_of_the_help_has_gone(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run([*command, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert "Traceback" not in run.stderr


def test_console(capsys: pytest.CaptureFixture[str]) -> None:
    from cyberhost_cli.console import Console

    console = Console(as_json=True)
    console.note("words")
    console.warn("care")
    console.data({"frames": 3})
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"frames": 3} and shown.err == "cyberhost: warning: care\n"
    Console(quiet=True).warn("care")
    with Console(quiet=True).progress("x", 3) as tick:
        tick(1, 3)
    assert capsys.readouterr() == ("", "")


def test_bar_is_drawn_on_stderr_alone(command: list[str]) -> None:
    pty = pytest.importorskip("pty")
    script = (
        "from cyberhost_cli.console import Console\n"
        "with Console().progress('animating', 4) as tick:\n"
        "    for i in range(4):\n        tick(i + 1, 4)\n"
    )
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    run = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=follower, env=environment)
    os.close(follower)
    drawn = os.read(leader, 100_000).decode()
    os.close(leader)
    assert run.returncode == 0 and run.stdout == b"" and "4/4" in drawn and "frames" in drawn


def test_a_machine_without_libgl_is_told_what_to_install():
    """insightface brings a build of OpenCV that needs it, and may have written it over the headless one."""
    error = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
    assert status_of(error) == ExitStatus.RESOURCE and "opencv-python-headless" in describe(error)
    assert status_of(ImportError("another")) == ExitStatus.ERROR and "libGL" not in describe(ImportError("another"))
