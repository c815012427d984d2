"""Whether memory grows with the video's length: the most that `cyberhost animate` held, for videos of some lengths.

    python -m benchmarks.length [--seconds 60 600] [--steps 1] [--size 256]
    python -m benchmarks.length --windows [--seconds 10 40]

The speech is repeated. Steps change the time and not the memory, so one is enough. --windows: EchoMimicV2's network,
narrow and random, at 640x384, which denoises a video as a whole; its latents are 61 KB a frame in float32. Needs Linux
or macOS.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

from benchmarks.inputs import EXAMPLES
from cyberhost_model.media.audio import SPEECH_RATE, load_audio


def main() -> None:
    """The command line: a Markdown table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.length", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, nargs="+", default=[60, 600])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--windows", action="store_true")
    given = parser.parse_args()
    print("| video, s | frames a second | peak MB | against the first | KB a frame more |", flush=True)
    print("|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        options = ["--steps", str(given.steps), "--size", str(given.size)]
        if given.windows:
            options = ["--steps", str(given.steps), "--size", str(write_windows(Path(folder) / "model"))]
            options += ["--model", str(Path(folder) / "model"), "--fps", "25", "--allow-untrained"]
        first: tuple[float, float] | None = None
        for seconds in given.seconds:
            taken, peak = animate(seconds, options)
            first = first or (seconds, peak)
            more = (peak - first[1]) * 1e3 / (25 * (seconds - first[0])) if seconds > first[0] else 0.0
            print(
                f"| {seconds:g} | {25 * seconds / taken:.1f} | {peak:.0f} | {peak / first[1]:.3f} | {more:.0f} |",
                flush=True,
            )


def write_windows(folder: Path) -> int:
    """Write a narrow model of EchoMimicV2's kind; returns the --size of 640x384."""
    import torch

    from benchmarks.implementations.windows import model
    from benchmarks.sizes import SIZES
    from cyberhost_model.runtime.pipeline import CyberHost

    size = dataclasses.replace(SIZES["small"], latent=SIZES["full"].latent)
    CyberHost(model(size, torch.device("cpu"), torch.float32), torch.device("cpu"), torch.float32).save_pretrained(
        folder
    )
    return round((size.pixels[0] * size.pixels[1]) ** 0.5)


def animate(seconds: float, options: list[str]) -> tuple[float, float]:
    """(seconds it took, most MB it held) of a job of so many seconds. Raises CalledProcessError."""
    voice = np.concatenate(list(load_audio(EXAMPLES / "speech.wav").stream_mono16k()))
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "speech.wav"
        with wave.open(str(sound), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(SPEECH_RATE)
            out.writeframes((np.resize(voice, round(seconds * SPEECH_RATE)) * 32767).astype("<i2").tobytes())
        command = [
            sys.executable,
            "-m",
            "cyberhost_cli",
            "animate",
            str(EXAMPLES / "astronaut.jpg"),
            str(sound),
            "-o",
            str(Path(folder) / "out.mp4"),
        ]
        command += [*options, "--quiet"]
        began = time.perf_counter()
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - began, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    main()
