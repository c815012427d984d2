"""Golden frames and numbers: what a change of the code's structure must leave as it is.

`python scripts/golden.py measure MATERIAL -o NUMBERS.json` makes the three settings' frames in fp32 on one thread and
measures videos with `eval`; `python scripts/golden.py compare BEFORE.json AFTER.json` prints a table of both and ends
with 1 where they differ. MATERIAL is a folder that keeps the driving video and the videos that are measured, so that
both sides read the same files; it is filled where it is empty. Equality holds on one machine with one build of torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = (
    Path(__file__).resolve().parents[1] if (Path(__file__).resolve().parents[1] / "examples").is_dir() else Path.cwd()
)
PICTURE, SPEECH = ROOT / "examples/astronaut.jpg", ROOT / "examples/speech.wav"


def material(folder: Path, host) -> None:
    """The videos that both sides read."""
    from cyberhost_model.marks.marking import Marks

    folder.mkdir(parents=True, exist_ok=True)
    for seed in (0, 1):
        path = folder / f"seed_{seed}.mp4"
        if not path.exists():
            host.animate(str(PICTURE), str(SPEECH), seed=seed).save(path, marks=Marks(watermark=False, c2pa=False))


def measure(folder: Path) -> dict[str, dict[str, object]]:
    """Name -> what was made: frames and their digest, or the summary of `eval`."""
    import torch

    torch.set_num_threads(1)
    from cyberhost_model import CyberHost

    host = CyberHost.from_pretrained("tiny", device="cpu", precision="fp32")
    material(folder, host)
    jobs = {
        "animate": lambda: host.animate(str(PICTURE), str(SPEECH), seed=3),
        "animate, guided": lambda: host.animate(
            str(PICTURE), str(SPEECH), seed=4, guidance_reference=1.5, guidance_audio=2.0, steps=3, body_movement=0.6
        ),
        "animate --head": lambda: host.animate(str(PICTURE), str(SPEECH), seed=3, head=True),
        "reenact": lambda: host.reenact(str(PICTURE), str(folder / "seed_0.mp4"), seed=3),
        "multimodal": lambda: host.multimodal(str(PICTURE), str(SPEECH), "wave", seed=3),
    }
    found: dict[str, dict[str, object]] = {}
    for name, job in jobs.items():
        animation, digest, count = job(), hashlib.sha256(), 0
        for frame in animation.frames:
            digest.update(frame.tobytes())
            count += 1
        found[name] = {
            "frames": count,
            "size": list(animation.size),
            "sha256": digest.hexdigest(),
            "warnings": len(animation.warnings),
        }
        print(name, found[name], file=sys.stderr, flush=True)
    found["eval"] = evaluated(folder)
    return found


def evaluated(folder: Path) -> dict[str, object]:
    """The summary of `eval` on two videos, offline."""
    words = [
        sys.executable,
        "-m",
        "cyberhost_cli",
        "eval",
        str(folder / "seed_1.mp4"),
        "--reference",
        str(folder / "seed_0.mp4"),
        "--images",
        str(PICTURE),
        "--networks",
        "embedded",
        "--no-download",
        "--device",
        "cpu",
        "--cache",
        str(folder / f"cache-{os.getpid()}"),
        "--json",
        "--quiet",
    ]
    said = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return {name: value for name, value in flattened(said).items() if not name.startswith("provenance.")}


def flattened(value, name: str = "") -> dict[str, object]:
    """Numbers of nested JSON by their path."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flattened(inner, f"{name}{key}.").items()}
    if isinstance(value, list):
        return {k: v for i, inner in enumerate(value) for k, v in flattened(inner, f"{name}{i}.").items()}
    return {name.rstrip("."): value} if isinstance(value, (int, float)) and not isinstance(value, bool) else {}


def commit() -> str:
    """The commit that is measured."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()


def compare(before: Path, after: Path) -> int:
    """Print both side by side; 1 where anything differs."""
    a, b = json.loads(before.read_text()), json.loads(after.read_text())
    print(f"| | {a['commit']} | {b['commit']} | equal |\n|---|---|---|---|")
    unequal = 0
    for name, one in a["found"].items():
        other = b["found"].get(name, {})
        rows = [row for row in one.items() if not row[0].startswith("provenance.")] if name == "eval" else [("", one)]
        for key, value in rows:
            same = value == (other.get(key) if name == "eval" else other)
            unequal += not same

            def show(v):
                return (
                    f"{v:.6g}"
                    if isinstance(v, (int, float))
                    else f"{v['frames']} frames, {v['sha256'][:12]}"
                    if v
                    else "-"
                )

            print(
                f"| {name} {key} | {show(value)} | {show(other.get(key) if name == 'eval' else other)} | "
                f"{'yes' if same else 'NO'} |"
            )
    return int(unequal > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    one = commands.add_parser("measure")
    one.add_argument("material", type=Path)
    one.add_argument("-o", "--output", type=Path, required=True)
    two = commands.add_parser("compare")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.what == "compare":
        sys.exit(compare(given.before, given.after))
    given.output.write_text(
        json.dumps({"commit": commit(), "found": measure(given.material.resolve())}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
