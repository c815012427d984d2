"""What half precision, memory layout, compiled blocks and recorded steps bring on a GPU: this project's full-size
network beside itself.

    python -m benchmarks.ways [--size full] [--device cuda] [--rounds 10] [--branches 1 2 3]
        [--ways fp32 "fp16" ...] [--json FILE] [--profile FILE]

Weights are random. Seconds are medians, of a step with 1 to 3 branches and of decoding a clip; MFU is the share of the
data sheet's rate, by the FLOPs that torch counts. "error": the relative distance (L2) to fp32 of one guided step's
prediction, of a clip denoised in 5 steps with the same noise, and of its frames.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.implementations.ours import clip_of, drawn, fail, guidance, model, video_of
from benchmarks.implementations.shared import DTYPES, on
from benchmarks.sizes import SIZES, Size

CLIP_STEPS = 5


@dataclass(frozen=True)
class Way:
    """How steps are computed. tf32: fp32's matrix products with short mantissas; last: channels last, as a job lays
    out the network and on a GPU the codec.
    """

    precision: str
    tf32: bool = False
    last: bool = True
    compiled: bool = False
    recorded: bool = False


WAYS = {
    "fp32": Way("fp32"),
    "fp32, TF32": Way("fp32", tf32=True),
    "bf16": Way("bf16"),
    "fp16, channels first": Way("fp16", last=False),
    "fp16": Way("fp16"),
    "fp16, CUDA graph": Way("fp16", recorded=True),
    "fp16, compiled": Way("fp16", compiled=True),
    "fp16, compiled, CUDA graph": Way("fp16", compiled=True, recorded=True),
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ways", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=sorted(SIZES), default="full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--branches",
        type=int,
        nargs="+",
        choices=(1, 2, 3),
        help="of guidance; all three by default, of which each is compiled by itself",
    )
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(map(repr, WAYS))
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="where each way's operations go, by the time they take"
    )
    given = parser.parse_args()
    found: dict[str, Any] = {}
    size = SIZES[given.size]
    if given.branches:
        size = dataclasses.replace(size, branches=tuple(given.branches))
    with torch.inference_mode():
        bench = Bench(size, torch.device(given.device), given.rounds)
        for name in given.ways:
            try:
                found[name] = bench.measured(WAYS[name], given.profile and profile_of(given.profile, name))
            except Exception as error:  # the others are still worth measuring
                found[name] = {"broken": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
            torch._dynamo.reset()  # compiled or broken, the next way begins afresh
            print(f"{time.strftime('%H:%M:%S')} {name}: {found[name]}", file=sys.stderr, flush=True)
            if given.json:
                given.json.write_text(
                    json.dumps(
                        {"size": given.size, "device": bench.name, "torch": torch.__version__, "ways": found}, indent=1
                    )
                    + "\n"
                )
    print(table(found, bench))


def profile_of(file: Path, way: str) -> Path:
    """A file for each way beside the one that was named."""
    return file.with_name(f"{file.stem}.{way.replace(',', '').replace(' ', '-')}{file.suffix}")


class Bench:
    """One network in fp32, the inputs of a clip, and what each way makes of them."""

    def __init__(self, size: Size, device: torch.device, rounds: int) -> None:
        torch.manual_seed(0)
        self.size, self.device, self.rounds, self.cuda = size, device, rounds, device.type == "cuda"
        self.name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        built = model(size, device, torch.float32)
        self.network, self.codec, preset = built.network, built.codec, built.network.preset
        noisy, z = on(device, torch.float32, 2, 1, size.frames, preset.latent_channels, *size.latent)
        self.given = {**drawn(size, preset, device, torch.float32), "noisy": noisy, "z": 0.1 * z}
        self.flops = self.counted()
        self.expected: dict[str, torch.Tensor] = {}

    def counted(self) -> dict[int, float]:
        """Branches -> floating point operations of a step; of the plain network, for what is compiled cannot be
        counted.
        """
        from cyberhost_model.sampler.guidance import Guidance, GuidedConditions

        clip = clip_of(self.network, video_of(self.network, self.given), self.given)
        found = {}
        for branches in sorted(self.size.branches):
            with FlopCounterMode(display=False) as counter:
                GuidedConditions(clip, guidance(branches, Guidance)).predict(
                    self.network, self.given["noisy"], torch.full((1,), 601.0, device=self.device)
                )
            found[branches] = counter.get_total_flops()
        return found

    def measured(self, way: Way, profile: Path | None) -> dict[str, Any]:
        """Seconds of each part, peaks of memory, MFU and the distance to fp32, which has to be the first way
        measured.
        """
        from cyberhost_model.lab.training.reports import peak_flops
        from cyberhost_model.model.compiling import compile_blocks
        from cyberhost_model.model.norms import use_channels_last
        from cyberhost_model.sampler.cuda_graphs import RecordedNetwork
        from cyberhost_model.sampler.denoise import denoise_clip
        from cyberhost_model.sampler.guidance import Guidance, GuidedConditions

        gc.collect()
        held = self.memory()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = way.tf32
        dtype = DTYPES[way.precision]
        network, codec = copy.deepcopy(self.network), copy.deepcopy(self.codec).to(self.device, dtype)
        if way.last:
            use_channels_last(network, self.device, dtype)
            if self.cuda and dtype != torch.float32:
                use_channels_last(codec, self.device, dtype)
        else:
            network.to(self.device, dtype, memory_format=torch.contiguous_format)
        if way.compiled:
            compile_blocks(network)
        x = {name: value.to(self.device, dtype) for name, value in self.given.items()}
        found: dict[str, Any] = {"weights_mb": self.memory() - held}
        clip = clip_of(network, video_of(network, x), x)
        timestep = torch.full((1,), 601.0, device=self.device)
        predictor = RecordedNetwork(network, fail, lambda: None) if way.recorded else network
        errors = {}
        with network.denoising_unet.fixed_weights():
            for branches in sorted(self.size.branches):
                guided = GuidedConditions(clip, guidance(branches, Guidance))
                step = lambda guided=guided: guided.predict(predictor, x["noisy"], timestep)  # noqa: E731
                began = time.perf_counter()
                for _ in range(3):
                    made = step()
                self.settle()
                found[f"first three, {branches}"] = time.perf_counter() - began
                seconds, peak_mb = self.median(step)
                found[f"step, {branches}"], found[f"step, {branches}, peak_mb"] = seconds, peak_mb - held
                if peak := peak_flops(self.device, way.precision):
                    found[f"step, {branches}, mfu"] = self.flops[branches] / seconds / peak
                errors["step"] = made
                if profile and branches == 2:
                    profile.write_text(self.profiled(step))
            scales = guidance(2, Guidance)
            errors["clip"] = denoise_clip(
                network,
                clip,
                tuple(x["noisy"].shape),
                steps=CLIP_STEPS,
                guidance=scales,
                generator=torch.Generator().manual_seed(0),
                predictor=predictor if way.recorded else None,
            )
        z = x["z"]
        decode = lambda: codec.decode(z, x["maps"][:, 0])  # noqa: E731
        errors["frames"] = decode()
        found["decode"], peak_mb = self.median(decode)
        found["decode, peak_mb"] = peak_mb - held
        found["error"] = {name: self.distance(name, value) for name, value in errors.items()}
        return found

    def distance(self, name: str, made: torch.Tensor) -> float:
        """||made - expected|| / ||expected||, the first that comes being expected."""
        made = made.float().cpu()
        expected = self.expected.setdefault(name, made)
        return float((made - expected).norm() / expected.norm())

    def median(self, run: Callable[[], Any]) -> tuple[float, float]:
        """(seconds of one of `rounds` runs, the most memory held in them in MB; 0 on a CPU)."""
        seconds = []
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        for _ in range(self.rounds):
            self.settle()
            began = time.perf_counter()
            run()
            self.settle()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds), torch.cuda.max_memory_allocated(self.device) / 1e6 if self.cuda else 0.0

    def settle(self) -> None:
        """Wait for the GPU."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def memory(self) -> float:
        """MB held on the GPU now."""
        return torch.cuda.memory_allocated(self.device) / 1e6 if self.cuda else 0.0

    def profiled(self, run: Callable[[], Any]) -> str:
        """Kernels by the time they take in one run."""
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
            run()
            self.settle()
        return found.key_averages().table(sort_by="self_cuda_time_total", row_limit=60, max_name_column_width=110)


def table(found: dict[str, Any], bench: Bench) -> str:
    """Markdown."""
    branches = sorted(bench.size.branches)
    titles = [
        *(f"step, {n}" for n in branches),
        f"MFU, {branches[-1]}",
        "peak GB",
        f"decode {bench.size.frames}",
        "peak GB",
        "error of step",
        "clip",
        "frames",
    ]
    lines = [
        f"Size {bench.size.name}, {bench.name}, torch {torch.__version__}. TFLOP of a step: "
        + ", ".join(f"{n} branches {bench.flops.get(n, 0) / 1e12:.1f}" for n in branches)
        + ".",
        "",
        "| Way | " + " | ".join(titles) + " |",
        "|---|" + "---:|" * len(titles),
    ]
    for name, one in found.items():
        if "broken" in one:
            lines.append(f"| {name} | {one['broken']} |")
            continue
        cells = [f"{one[f'step, {n}']:.4f}" for n in branches]
        cells += [
            f"{one.get(f'step, {branches[-1]}, mfu', 0):.0%}",
            f"{one[f'step, {branches[-1]}, peak_mb'] / 1e3:.1f}",
        ]
        cells += [
            f"{one['decode']:.4f}",
            f"{one['decode, peak_mb'] / 1e3:.1f}",
            *(f"{one['error'][part]:.1e}" for part in ("step", "clip", "frames")),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
