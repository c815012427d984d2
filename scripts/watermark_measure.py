#!/usr/bin/env python3
"""Measure the watermark on videos: how often it is found after each attack, false alarms, PSNR, and time.

    python scripts/watermark_measure.py VIDEO_OR_FOLDER... -o FIGURES.json [--frames 24] [--at-most 200] [--single]

Each video is marked and encoded as `cyberhost animate` writes it, with a number made of its name; an attack then
encodes that file again. The unmarked frames are looked at too, and so are windows of them and of noise (`--windows`).
Give videos without a mark (`cyberhost animate --no-watermark`). The table is printed as Markdown after the last video;
FIGURES.json is written after each one, and a run that was stopped goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

from cyberhost_model.marks.watermark import FALSE_ALARM, detect, mark
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.video_reader import VIDEO_SUFFIXES, stream_frames
from cyberhost_model.media.video_writer import write_video

HALF = "scale=trunc(iw/4)*2:trunc(ih/4)*2"
CROP = "crop=trunc(iw*0.45)*2:trunc(ih*0.45)*2"
LOPSIDED = "crop=trunc(iw*0.45)*2:trunc(ih*0.45)*2:0:trunc(ih*0.1)"
ATTACKS = {  # name -> (filter, crf, frames a second)
    "as written": None,
    "H.264 at crf 30": (None, 30, None),
    "half size": (HALF, 18, None),
    "cropped by 10% (a tenth of each side, from the middle)": (CROP, 18, None),
    "24 to 30 frames a second": ("fps=30", 18, None),
}
COMBINED = {
    "half size and crf 30": (HALF, 30, None),
    "cropped by 10% (from a corner) and crf 30": (LOPSIDED, 30, None),
    "cropped by 10%, half size, 30 a second, crf 30": (f"{CROP},{HALF},fps=30", 30, None),
}


def encode(source: Path, target: Path, attack: tuple[str | None, int, int | None]) -> None:
    filters, crf, _ = attack
    chosen = ["-vf", filters] if filters else []
    subprocess.run(
        [ffmpeg_binary(), "-y", "-v", "error", "-threads", "1", "-i", str(source), *chosen, "-an", "-c:v", "libx264"]
        + ["-threads", "1", "-preset", "medium", "-crf", str(crf), str(target)],
        check=True,
    )


def first_frames(path: Path, count: int, fps: float = 25) -> list[np.ndarray]:
    frames = []
    for frame in stream_frames(path, fps):
        frames.append(frame)
        if len(frames) == count:
            break
    return frames


def even(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])


def measure(video: Path, count: int, attacks: dict, scratch: Path) -> dict:
    plain = [even(frame) for frame in first_frames(video, count)]
    run = zlib.crc32(video.name.encode())
    mark(plain[0], run)  # the pattern of this size is made once
    started = time.process_time()
    marked = [mark(frame, run) for frame in plain]
    spent = (time.process_time() - started) / len(plain)
    error = np.mean([np.square(a.astype(np.float32) - b).mean() for a, b in zip(plain, marked, strict=True)])
    result = {
        "video": video.name,
        "size": [plain[0].shape[1], plain[0].shape[0]],
        "frames": len(plain),
        "psnr": round(float(10 * np.log10(255**2 / error)), 2),
        "ms": round(1000 * spent, 2),
        "unmarked": detect(plain).false_alarm,
        "runs": {},
    }
    written = write_video(marked, scratch / "marked.mp4", 24, overwrite=True)
    for name, attack in attacks.items():
        path = written
        if attack is not None:
            path = scratch / "attacked.mp4"
            encode(written, path, attack)
        found = detect(first_frames(path, count, 30 if "30 " in name else 24))
        result[name] = found.false_alarm
        result["runs"][name] = "none" if found.run is None else "right" if found.run == run else "wrong"
    return result


def windows(videos: list[Path], count: int, rng: random.Random) -> list[float]:
    """Look for the mark in random windows of unmarked frames, mirrored half the time, and in noise."""
    noise = np.random.default_rng(rng.randrange(1 << 30))
    found = []
    while len(found) < count and videos:
        frames = first_frames(rng.choice(videos), 12)
        for _ in range(20):
            frame = rng.choice(frames)
            side = rng.randrange(96, min(frame.shape[:2]) + 1)
            y, x = rng.randrange(frame.shape[0] - side + 1), rng.randrange(frame.shape[1] - side + 1)
            window = frame[y : y + side, x : x + side]
            if rng.random() < 0.1:
                window = noise.normal(128, rng.uniform(1, 40), window.shape).clip(0, 255).astype(np.uint8)
            found.append(detect([np.ascontiguousarray(window[:, :: rng.choice((1, -1))])]).false_alarm)
    return found


def table(rows: list[dict], alarms: list[float]) -> str:
    lines = ["| Attack | found | run read | wrong run | of |", "|---|---:|---:|---:|---:|"]
    for name in (*ATTACKS, *COMBINED):
        bounds = [row[name] for row in rows if name in row]
        runs = [row["runs"][name] for row in rows if name in row]
        read = f"{runs.count('right')} | {runs.count('wrong')}"
        lines.append(f"| {name} | {sum(bound <= FALSE_ALARM for bound in bounds)} | {read} | {len(bounds)} |")
    for name, bounds in (("whole videos", [row["unmarked"] for row in rows]), ("windows of frames and noise", alarms)):
        lines.append(f"| no mark: {name} | {sum(bound <= FALSE_ALARM for bound in bounds)} | | | {len(bounds)} |")
    psnr, spent = [row["psnr"] for row in rows], [row["ms"] for row in rows]
    lines.append(
        f"\nPSNR {np.mean(psnr):.1f} dB ({min(psnr):.1f} to {max(psnr):.1f}); {np.median(spent):.1f} ms a frame "
        f"(median over sizes). Windows without the mark: smallest bound {min(alarms, default=1):.2g}; "
        f"{np.mean(np.array(alarms) <= 0.1):.3f} of them have a bound of 0.1 or less."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--at-most", type=int, default=200)
    parser.add_argument("--windows", type=int, default=2000)
    parser.add_argument("--single", action="store_true", help="leave out several attacks at once, which take longest")
    given = parser.parse_args()
    found = [p for v in given.videos for p in (sorted(v.rglob("*")) if v.is_dir() else [v])]
    videos = [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES]
    random.Random(1).shuffle(videos)
    videos = videos[: given.at_most]
    rows: list[dict] = json.loads(given.output.read_text())["videos"] if given.output.exists() else []
    attacks = ATTACKS if given.single else {**ATTACKS, **COMBINED}
    done = {row["video"] for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        for video in videos:
            if video.name in done:
                continue
            rows.append(measure(video, given.frames, attacks, Path(scratch)))
            given.output.write_text(json.dumps({"videos": rows}, indent=1))
            print(len(rows), json.dumps(rows[-1]), flush=True)
    alarms = windows(videos, given.windows, random.Random(2))
    given.output.write_text(json.dumps({"videos": rows, "windows": alarms}, indent=1))
    print(table(rows, alarms))


if __name__ == "__main__":
    main()
