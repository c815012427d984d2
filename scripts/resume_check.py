"""Kills a video at random moments, lets it go on, and compares its frames with those of one that was not stopped.

    python scripts/resume_check.py --kills 10 --seconds 20

The commands are those of a shell, ended by SIGKILL. Exit code 1 where a frame differs or something is left behind.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from cyberhost_model.media.video_reader import probe_video, read_frames
from cyberhost_model.runtime.resume import state_folder

ROOT = Path(__file__).resolve().parents[1]


def speech(path: Path, seconds: float) -> Path:
    """Write `seconds` of the bundled speech, repeated."""
    samples, rate = soundfile.read(ROOT / "examples" / "speech.wav")
    count = round(seconds * rate)
    soundfile.write(str(path), np.tile(samples, count // len(samples) + 1)[:count], rate)
    return path


def animate_command(sound: Path) -> list[str]:
    """Make the command that animates the bundled picture with `sound`, without the output."""
    picture = str(ROOT / "examples" / "astronaut.jpg")
    return [sys.executable, "-m", "cyberhost_cli", "animate", picture, str(sound)]


def digest(video: Path) -> tuple[int, str]:
    """Count the frames of a video and digest them."""
    state, count = hashlib.sha256(), 0
    for batch in read_frames(probe_video(video)):
        state.update(batch.tobytes())
        count += len(batch)
    return count, state.hexdigest()


def main() -> int:
    """Run the check and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds a run lives at most after its first clip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", help="options of animate, after --")
    given = parser.parse_args()
    draws = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "out"
        folder.mkdir()
        sound, out, whole = speech(Path(made) / "speech.wav", given.seconds), folder / "out.mp4", folder / "whole.mp4"
        command = animate_command(sound)
        began = time.monotonic()
        subprocess.run([*command, "-o", str(whole), *given.options], check=True)
        alone = time.monotonic() - began
        kills = 0
        while kills < given.kills and not out.exists():
            process = subprocess.Popen([*command, "-o", str(out), *given.options], stderr=subprocess.DEVNULL)
            before = len(list(state_folder(out).glob("clip-*"))) + len(list(state_folder(out).glob("segment-*")))
            waits = time.monotonic()
            while process.poll() is None and time.monotonic() - waits < alone:  # at least until there is something new
                now = len(list(state_folder(out).glob("clip-*"))) + len(list(state_folder(out).glob("segment-*")))
                if now != before:
                    break
                time.sleep(0.02)
            time.sleep(draws.uniform(0, given.longest / given.kills))
            process.kill()
            process.wait()
            if not out.exists():
                kills += 1
                print(f"kill {kills}: after {time.monotonic() - waits:.1f} s", flush=True)
        if not out.exists():
            subprocess.run([*command, "-o", str(out), *given.options], check=True)
        first, second = digest(whole), digest(out)
        left = sorted(p.name for p in folder.iterdir() if p not in (out, whole))
        same = first == second
        verdict, rest = "equal" if same else "DIFFERENT", left or "nothing"
        print(f"{kills} kills; {second[0]} frames of {first[0]}; {verdict}; left behind: {rest}")
    return int(not same or bool(left))


if __name__ == "__main__":
    raise SystemExit(main())
