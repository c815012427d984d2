"""Measures memory and disk while a long video is made: an hour of speech, or the first minutes of it.

    python scripts/hour_check.py --minutes 5

The sound lasts `--seconds`; the command is stopped after `--minutes`. Printed: resident memory of the command and of
its children, and the bytes beside the output, every `--every` seconds, and how both grew after the first segments.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from resume_check import ROOT, animate_command

from cyberhost_model.runtime.resume import state_folder


def write_speech(path: Path, seconds: float) -> Path:
    """Write the bundled speech over and over; memory does not grow with its length."""
    samples, rate = soundfile.read(ROOT / "examples" / "speech.wav", dtype="int16")
    with soundfile.SoundFile(str(path), "w", rate, 1) as file:
        for _ in range(round(seconds * rate / len(samples))):
            file.write(samples)
    return path


def resident(process: int) -> int:
    """Bytes of resident memory of a process and of its children (Linux)."""
    total = 0
    for number in [process, *_children(process)]:
        try:
            total += int(Path(f"/proc/{number}/statm").read_text().split()[1]) * 4096
        except (OSError, IndexError):
            continue
    return total


def _children(process: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def on_disk(folder: Path) -> int:
    """Bytes of the files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def main() -> int:
    """Run the command and print the measures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0, help="of speech")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop the command after these")
    parser.add_argument("-o", "--out", type=Path, help="folder that keeps speech and video; run again, it goes on")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between measures")
    parser.add_argument("options", nargs="*", help="options of animate, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = (given.out or Path(made)) / "out"
        folder.mkdir(parents=True, exist_ok=True)
        sound, out = write_speech(folder.parent / "speech.wav", given.seconds), folder / "out.mp4"
        process = subprocess.Popen([*animate_command(sound), "-o", str(out), *given.options])
        began, rows = time.monotonic(), []
        while process.poll() is None and time.monotonic() - began < 60 * given.minutes:
            time.sleep(given.every)
            segments = len(list(state_folder(out).glob("segment-*")))
            rows.append((time.monotonic() - began, resident(process.pid), on_disk(folder), segments))
            passed, memory_used, disk, _ = rows[-1]
            print(
                f"{passed:8.1f} s  {memory_used / 1e6:7.1f} MB resident  {disk / 1e6:8.2f} MB on disk  "
                f"{segments} segments",
                flush=True,
            )
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        settled = [row for row in rows if row[3] >= 1] or rows
        memory = np.array([row[1] for row in settled]) / 1e6
        when = " after the first segment" if settled[0][3] else ""
        print(f"resident{when}: {memory.min():.0f} to {memory.max():.0f} MB")
        print(f"on disk at the end: {settled[-1][2] / 1e6:.1f} MB for {settled[-1][3]} segments of about 10 s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
