"""Many clients at one server on this machine: is a video lost or mixed up, and does memory stay bounded?

    python scripts/serve_load.py --clients 8 --videos 3

Every video has a picture, a seed and a length of its own, and is compared frame by frame with what `animate` makes of
them. Clients that are told to come back later do so. Exit code 1 where a video is lost, differs, or a file is left.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import requests
import soundfile
from PIL import Image

from cyberhost_model import CyberHost
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.video_reader import probe_video, read_frames

ROOT = Path(__file__).resolve().parents[1]
COMMON = {"steps": 1, "size": 256}
UNMARKED = Marks(watermark=False)  # a watermark holds the number of its run, which is the server's own


@dataclass
class Wanted:
    """One video: what it is made of, and what the server made."""

    number: int
    picture: bytes
    sound: bytes
    video: bytes | None = None
    seconds: float = 0.0
    told_to_wait: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def options(self) -> dict[str, int]:
        return {**COMMON, "seed": self.number}


def wanted(number: int) -> Wanted:
    """Make the inputs of a video: the bundled picture in another light, and another piece of the bundled speech."""
    pixels = np.asarray(Image.open(ROOT / "examples" / "astronaut.jpg").convert("RGB")).astype(np.float32)
    lit = (pixels * (0.6 + 0.4 * ((number * 37) % 100) / 100)).astype(np.uint8)
    picture, sound = io.BytesIO(), io.BytesIO()
    Image.fromarray(lit).save(picture, "png")
    samples, rate = soundfile.read(ROOT / "examples" / "speech.wav")
    start = (number * 1777) % (len(samples) // 2)
    soundfile.write(sound, samples[start : start + round(rate * (0.2 + 0.04 * (number % 8)))], rate, format="wav")
    return Wanted(number, picture.getvalue(), sound.getvalue())


def client(address: str, jobs: list[Wanted]) -> None:
    """Have videos made one after the other."""
    for job in jobs:
        began = time.monotonic()
        try:
            job.video = make(address, job)
        except (requests.RequestException, RuntimeError) as error:
            job.errors.append(str(error))
        job.seconds = time.monotonic() - began


def make(address: str, job: Wanted) -> bytes:
    """Upload, wait, fetch, remove. Raises RuntimeError for a job that fails."""
    while True:
        files = {"image_reference": ("p.png", job.picture), "audio_reference": ("s.wav", job.sound)}
        answer = requests.post(f"{address}/v1/videos", files=files, data=job.options, timeout=600)
        if answer.status_code != 429:
            break
        job.told_to_wait += 1
        time.sleep(0.5)
    answer.raise_for_status()
    place = f"{address}/v1/videos/{answer.json()['id']}"
    while (state := requests.get(place, timeout=60).json())["status"] not in ("completed", "failed"):
        time.sleep(0.2)
    if state["error"]:
        raise RuntimeError(state["error"]["message"])
    video = requests.get(f"{place}/content", timeout=60).content
    requests.delete(place, timeout=60).raise_for_status()
    return video


def frames(video: Path) -> np.ndarray:
    return np.concatenate(list(read_frames(probe_video(video))))


def compare(host: CyberHost, jobs: list[Wanted], folder: Path) -> list[int]:
    """Make every video with `animate`; returns the numbers of those that differ."""
    different = []
    for job in jobs:
        for name, data in (("p.png", job.picture), ("s.wav", job.sound), ("served.mp4", job.video or b"")):
            (folder / name).write_bytes(data)
        animation = host.animate(folder / "p.png", folder / "s.wav", **job.options)
        animation.save(folder / "own.mp4", overwrite=True, marks=UNMARKED)
        if not (job.video and np.array_equal(frames(folder / "served.mp4"), frames(folder / "own.mp4"))):
            different.append(job.number)
    return different


class Memory(threading.Thread):
    """Reads the memory of a process every half second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process, self.read = psutil.Process(pid), [psutil.Process(pid).memory_info().rss]

    def run(self) -> None:
        while self.process.is_running():
            try:
                self.read.append(self.process.memory_info().rss)
            except psutil.Error:
                return
            time.sleep(0.5)


def main() -> int:
    """Run the check and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--videos", type=int, default=3, help="of each client")
    parser.add_argument("--waiting", type=int, default=4, help="jobs that may wait, so that clients are sent away")
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    jobs = [wanted(number) for number in range(given.clients * given.videos)]
    with tempfile.TemporaryDirectory() as made:
        kept = Path(made) / "kept"
        call = ["serve", "--json", "--port", "0", "--folder", str(kept), "--max-waiting", str(given.waiting)]
        call += ["--no-watermark", "--device", "cpu", "--precision", given.precision]
        server = subprocess.Popen([sys.executable, "-m", "cyberhost_cli", *call], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"]
            memory = Memory(server.pid)  # the model is loaded, nothing is made yet
            memory.start()
            began = time.monotonic()
            shares = [jobs[number :: given.clients] for number in range(given.clients)]
            threads = [threading.Thread(target=client, args=(address, share)) for share in shares]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            spent = time.monotonic() - began
            time.sleep(2)  # the thread that makes videos removes the last one
            left = [path.name for path in (kept / "videos").rglob("*")]
        finally:
            server.terminate()
            code = server.wait(60)
        host = CyberHost.from_pretrained("tiny", device="cpu", precision=given.precision)
        different = compare(host, jobs, Path(made))
    found = {
        "videos": len(jobs),
        "clients": given.clients,
        "lost": [job.number for job in jobs if job.video is None],
        "different": different,
        "errors": [error for job in jobs for error in job.errors],
        "told_to_wait": sum(job.told_to_wait for job in jobs),
        "left_files": left,
        "seconds": round(spent, 1),
        "longest_wait": round(max(job.seconds for job in jobs), 1),
        "memory_mb": {
            "loaded": memory.read[0] >> 20,
            "peak_of_each_quarter": [int(part.max()) >> 20 for part in np.array_split(memory.read, 4)],
        },
        "exit_code": code,
    }
    print(json.dumps(found, indent=1))
    return 1 if found["lost"] or different or left or found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
