"""What a command says on a terminal: a line at once, and nothing that a job could stumble over."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cyberhost_cli import console, terminal
from cyberhost_cli.console import Console

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@LINUX
def test_the_first_line_comes_at_once(command: list[str], portrait_file: Path, speech_file: Path, tmp_path: Path):
    """Before half a second of processor time; the wall clock of a machine that does something else would say less."""
    import pty

    ours, theirs = pty.openpty()
    call = [*command, "animate", str(portrait_file), str(speech_file), "-o", str(tmp_path / "out.mp4")]
    process = subprocess.Popen(call, stderr=theirs, stdout=subprocess.DEVNULL, start_new_session=True)
    os.close(theirs)
    try:
        assert select.select([ours], [], [], 600)[0]
        text = os.read(ours, 200).decode()
        assert processor_seconds(process.pid) < 0.5
        assert text.startswith("cyberhost: loading ...")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(
    "words", [["animate", "--json"], ["animate", "-q"], ["--help"], ["animate", "--help"], ["eval"]]
)
def test_what_is_not_announced(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Screen()
    monkeypatch.setattr(sys, "stderr", shown)
    terminal.announce(words)
    assert shown.getvalue() == ""


class Screen(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def test_the_next_line_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Screen()
    monkeypatch.setattr(sys, "stderr", shown)
    terminal.announce(["animate", "a.png"])
    terminal.tell("cyberhost: a.png: no such picture")
    assert shown.getvalue() == "cyberhost: loading ...\r\033[Kcyberhost: a.png: no such picture\n"


def test_a_log_gets_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(console.Estimate.__init__, "__defaults__", (time.monotonic,))
    with Console().progress("animating", 240, clip=12) as tick:
        tick(0)
        for frame in range(1, 241):
            now[0] += 1.0
            tick(frame)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "cyberhost: animating: 60 of 240 frames, 1:00 elapsed, about 3:00 left"
    assert len(lines) == 4
    with Console(as_json=True).progress("animating", 240, clip=12) as tick:
        tick(240)
    assert capsys.readouterr().err == ""


def test_a_bar_tells_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Screen()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with Console().progress("animating", 48, clip=12) as tick:
        for frame in range(49):
            tick(frame)
    assert "48/48" in shown.getvalue() and "elapsed" in shown.getvalue() and "about 0:00 left" in shown.getvalue()


def test_streams_that_were_closed_are_the_null_device(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from cyberhost_cli.terminal import open_standard_streams, tell\n"
        "open_standard_streams()\n"
        "file = open('kept.txt', 'w')\n"
        "tell('a message')\n"
        "os.write(2, b'of a library')\n"
        "file.write('whole'); file.close()\n"
    )
    call = f'exec {sys.executable} -c "$1" >&- 2>&-'
    done = subprocess.run(["sh", "-c", call, "sh", program], cwd=tmp_path, check=False)
    assert done.returncode == 0 and (tmp_path / "kept.txt").read_text() == "whole"
