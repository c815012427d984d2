"""What each published model takes: seconds, and memory of a GPU, of a short video. Weights are random.

    python -m benchmarks.models [--size full] [--device cuda] [--precision fp16] [--seconds 1] [--steps N]
        [--only NAME ...] [--clock wall] [--budget 330] [--json FILE]

--size full: a model's own widths and pictures, guidance and number of steps; other sizes are those of `sizes.py`.
Before a model is measured it makes the video in one step. Models follow each other, the quicker first, and none is
begun after --budget seconds; --json has those that are done. Key points are found by the embedded detector.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.clocks import CLOCK_HELP, CLOCKS
from benchmarks.implementations.shared import DTYPES, vae
from benchmarks.implementations.windows import WHISPER_TINY
from benchmarks.inputs import EXAMPLES, FPS
from benchmarks.sizes import SIZES, Size

NAMES = ("echomimic-fast", "echomimic-v2-fast", "echomimic", "animate-anyone", "hallo", "hallo2", "echomimic-v2")
GESTURE = "open_palms"
CLIP_VIT_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
"""The image encoder that AnimateAnyone sees the picture with."""


def main() -> None:
    """The command line: a Markdown table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=sorted(set(SIZES) - {"tiny"}), default="full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=sorted(DTYPES), help="default: fp16 on a GPU, else fp32")
    parser.add_argument("--seconds", type=float, default=1.0, help=f"of video, at {FPS} frames a second")
    parser.add_argument("--steps", type=int, help="default: the model's")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help=CLOCK_HELP)
    parser.add_argument("--budget", type=float, default=330.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    device, began, found = torch.device(given.device), time.monotonic(), dict[str, Any]()
    dtype = DTYPES[given.precision or ("fp16" if device.type == "cuda" else "fp32")]
    print("| model | frames | size | steps | branches | seconds | a frame | peak GB |\n|---|" + "---:|" * 7, flush=True)
    for name in given.only:
        if time.monotonic() - began > given.budget:
            print(f"{name}: no time left", file=sys.stderr)
            continue
        one = found[name] = measure(name, SIZES[given.size], device, dtype, given.seconds, given.steps, given.clock)
        print(row(name, one), flush=True)
        if given.json:
            place = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device}, {given.clock}"
            report = {"device": place, "dtype": str(dtype), "torch": torch.__version__, "models": found}
            given.json.write_text(json.dumps(report, indent=1) + "\n")


def row(name: str, one: dict[str, Any]) -> str:
    """A row of the table."""
    width, height = one["size"]
    peak = f"{one['peak_gb']:.1f}" if one["peak_gb"] else ""
    cells = (name, one["frames"], f"{width}x{height}", one["steps"], one["branches"], f"{one['seconds']:.1f}")
    return "| " + " | ".join(map(str, (*cells, f"{one['seconds'] / one['frames']:.2f}", peak))) + " |"


def measure(
    name: str, size: Size, device: torch.device, dtype: torch.dtype, seconds: float, steps: int | None, clock: str
) -> dict[str, Any]:
    """Make a video of so many seconds, and say what it took; a first one, in one step, warms up."""
    from cyberhost_model.runtime.pipeline import CyberHost

    torch.manual_seed(0)
    host = CyberHost(build(name, size, device, dtype), device, dtype)
    list(start(host, name, seconds, 1).frames)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    began = CLOCKS[clock]()
    video = start(host, name, seconds, steps)
    frames = sum(1 for _ in video.frames)
    taken = CLOCKS[clock]() - began
    found = {
        "frames": frames,
        "size": video.size,
        "steps": steps or host.model.network.preset.sampling.steps,
        "branches": video.job.guidance.branches,
        "seconds": taken,
        "peak_gb": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None,
    }
    del host, video
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def build(name: str, size: Size, device: torch.device, dtype: torch.dtype) -> Any:
    """A model of the published structure with random weights; at sizes but "full" its widths and pixels are those."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from cyberhost_model.codecs.sd_vae import SdVaeCodec
    from cyberhost_model.hub.registry import load_adapter
    from cyberhost_model.model.condition_encoders import ImageToken
    from cyberhost_model.model.network import CyberHostNetwork
    from cyberhost_model.runtime.loading import load_model
    from cyberhost_model.speech.wav2vec2 import SpeechConfig, Wav2Vec2Encoder
    from cyberhost_model.speech.whisper import WhisperEncoder

    preset, tiny = load_adapter(name).full_size(), load_model("tiny")
    if size.name != "full":
        unet = dataclasses.replace(preset.unet, block_out_channels=size.widths)
        preset = dataclasses.replace(preset, unet=unet, size=size.pixels)
    image, speech = None, tiny.speech
    with device:  # random numbers by the thousand million are slow on a CPU
        network = CyberHostNetwork(preset)
        if preset.image_token:
            clip = CLIPVisionConfig(**CLIP_VIT_L, projection_dim=preset.unet.cross_attention_dim)
            image = ImageToken(CLIPVisionModelWithProjection(clip))
        elif preset.portrait is not None:
            config = SpeechConfig(wav2vec2={}, reach=None, target=1.0, motion_head=False, by_frame=True)
            speech = Wav2Vec2Encoder(config)
        else:
            speech = WhisperEncoder(WHISPER_TINY)
    codec = SdVaeCodec(vae(size, device, dtype))
    return dataclasses.replace(tiny, network=network, codec=codec, speech=speech, image=image)


def start(host: Any, name: str, seconds: float, steps: int | None) -> Any:
    """Begin a video by the command that the model was trained for."""
    from cyberhost_model.driving.template import fit_length, load_template
    from cyberhost_model.hub.capabilities import MODELS
    from cyberhost_model.media.audio import SPEECH_RATE, Sound, load_audio

    picture, command = EXAMPLES / "astronaut.jpg", MODELS[name].commands[0]
    height, width = host.model.network.preset.size
    options = {"fps": float(FPS), "steps": steps, "size": round((height * width) ** 0.5)}
    if command == "reenact":
        return host.reenact(
            picture, fit_length(load_template(GESTURE), round(seconds * FPS), FPS), audio=None, **options
        )
    voice = np.concatenate(list(load_audio(EXAMPLES / "speech.wav").stream_mono16k()))
    sound = Sound.from_samples(np.resize(voice, round(seconds * SPEECH_RATE)), SPEECH_RATE)
    return getattr(host, command)(picture, sound, *([GESTURE] if command == "multimodal" else []), **options)


if __name__ == "__main__":
    main()
