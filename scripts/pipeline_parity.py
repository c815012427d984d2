"""Run peers' own programs as a whole, at small widths with random weights, and compare latents and frames with ours.

    python scripts/pipeline_parity.py echomimic-v2 REPOSITORY --python PYTHON

REPOSITORY is a copy of the peer's code (MooreThreads/Moore-AnimateAnyone, antgroup/echomimic_v2, antgroup/echomimic,
fudan-generative-vision/hallo or hallo2), PYTHON an interpreter whose environment it runs in (diffusers 0.24 for the
first and for EchoMimic, 0.27 for EchoMimicV2, 0.31 for Hallo; transformers 4, einops, omegaconf, opencv). The peer's
process makes its own classes at small widths with random weights, saves them as they are published, and calls its own
pipeline or script with its own scheduler, steps and guidance, in fp32 on a CPU; this process converts the files and
makes the same videos by the library. Two lengths: one clip or window, and several.

Prints the largest difference of the final latents over their deviation, and that of the frames beyond the half level of
255 by which ours are rounded, over theirs. Ends with 1 where one exceeds 1e-3.

Where the face is, is told to both, which find it by detectors of their own; what the peer imports for files and
detectors alone is stood in for, and its reference features, which some round to fp16, stay in fp32. Hallo draws noise
and dropped pixels in an order of its own: they are handed over. Elsewhere the seed gives the same noise.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TOLERANCE = 1e-3
LENGTHS = ("one", "several")
FAMILIES = {
    "animate-anyone": "pose_driven",
    "echomimic-v2": "pose_driven",
    "echomimic-v2-fast": "pose_driven",
    "echomimic": "echomimic",
    "echomimic-fast": "echomimic",
    "hallo": "hallo",
    "hallo2": "hallo",
}
"""Peer -> its file in peer_pipelines."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=sorted(FAMILIES))
    parser.add_argument("repository", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--steps", type=int, help="[default: those of the peer's program]")
    parser.add_argument("--keep", type=Path, help="folder for what is made; what lies there is compared again")
    parser.add_argument("--sensitivity", action="store_true", help="also what the noise's last bit changes in ours")
    parser.add_argument("--names", type=Path, help="only write names and shapes of the full-size checkpoint (.txt.gz)")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    family = importlib.import_module(f"peer_pipelines.{FAMILIES[given.peer]}")
    steps = given.steps or family.STEPS[given.peer]
    command = [given.python, __file__, given.peer, str(given.repository.resolve()), "--steps", str(steps), "--make"]
    if given.make:
        in_the_peers_process(family, given, steps)
        return 0
    if given.names:
        subprocess.run([*command, ".", "--names", str(given.names.resolve())], check=True, cwd=given.repository)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep.resolve() if given.keep else Path(temporary)
        folder.mkdir(exist_ok=True)
        if not all((folder / f"{length}.pt").exists() for length in LENGTHS):
            family.write_inputs(given.peer, folder)
            subprocess.run([*command, str(folder)], check=True, cwd=given.repository, stdout=sys.stderr)
        found = {one: compare(family, given.peer, folder, one, steps, given.sensitivity) for one in LENGTHS}
    print(json.dumps({"peer": given.peer, "steps": steps, **found}, indent=1))
    return 0 if all(one[what] <= TOLERANCE for one in found.values() for what in ("latents", "frames")) else 1


def in_the_peers_process(family, given: argparse.Namespace, steps: int) -> None:
    """Make what is compared, or write a line for every weight of the full size: file, name, shape."""
    import gzip

    import torch

    sys.path.insert(0, str(given.repository))
    torch.manual_seed(0)
    if not given.names:
        with torch.no_grad():
            family.make(given.peer, given.make, steps)
        return
    with torch.device("meta"):
        files = family.list_names(given.peer)
    lines = [
        f"{file} {name} {'x'.join(map(str, value.shape)) or '-'}"
        for file, weights in files.items()
        for name, value in weights.items()
    ]
    given.names.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))


def compare(family, peer: str, folder: Path, length: str, steps: int, sensitivity: bool) -> dict:
    """Compare our video with the peer's, and ours with ours of a noise that differs by rounding."""
    import torch

    theirs = torch.load(folder / f"{length}.pt", weights_only=True)
    host, latents, frames = family.ours(peer, folder, length, steps, theirs, lambda noise: noise)
    found = figures(latents, frames, theirs["latents"], theirs["frames"])
    found["change at borders over inside"] = border_change(frames, host.model.network.preset, steps)
    if sensitivity:
        _, other, shown = family.ours(peer, folder, length, steps, theirs, last_bit)
        own = torch.from_numpy(frames).permute(3, 0, 1, 2) / 255
        found["own change by the noise's last bit"] = figures(other, shown, latents, own)
    return found


def last_bit(noise):
    """Change noise by its rounding."""
    import torch

    signs = torch.randn(noise.shape, generator=torch.Generator().manual_seed(0)).sign()
    return noise * (1 + 2**-23 * signs)


def figures(latents, frames, their_latents, their_frames) -> dict:
    """Differences over deviations; frames are uint8 here and float there, so half a level of 255 is allowed for."""
    import torch

    assert latents.shape == their_latents.shape, (latents.shape, their_latents.shape)
    ours = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 255
    assert ours.shape == their_frames.shape, (ours.shape, their_frames.shape)
    rounded = (their_frames * 255).round() / 255
    apart = (ours - their_frames).abs().sub(0.5 / 255).clamp_min(0)
    return {
        "frames of the video": len(frames),
        "latents": float((latents - their_latents).abs().max() / their_latents.std()),
        "latents' deviation": float(their_latents.std()),
        "frames": float(apart.max() / their_frames.std()),
        "frames' deviation": float(their_frames.std()),
        "bytes that differ": float((ours - rounded).abs().gt(0.1 / 255).float().mean()),
    }


def border_change(frames, preset, steps: int) -> float | None:
    """Mean change between frames where a clip, or a window of the last step, begins or ends, over that elsewhere.

    None for one. With random weights frames differ by their noise, which hides all but a hard jump.
    """
    import numpy as np

    from cyberhost_model.sampler.windows import plan_windows

    total, sampling = len(frames), preset.sampling
    if sampling.overlap:
        windows = plan_windows(total, preset.frames, sampling.overlap, (steps - 1) * sampling.window_shift)
        edges = {frame for window in windows for frame in (window[0] - 1, window[-1])}
    else:
        edges = set(range(preset.frames - 1, total, preset.frames))
    change = np.abs(np.diff(frames.astype(float), axis=0)).mean((1, 2, 3))
    border = np.isin(np.arange(total - 1), list(edges))
    return float(change[border].mean() / change[~border].mean()) if total > preset.frames else None


if __name__ == "__main__":
    raise SystemExit(main())
