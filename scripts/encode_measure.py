"""Measure what coding a dataset costs, and extrapolate it: core hours, bytes, and the operations of the networks.

`python scripts/encode_measure.py --size 640x384 --hours 200` times the parts of `data encode --preset sd15` that a CPU
does, on a video that it makes, in seconds of the processor; writes a shard of one clip to count its bytes; and counts
the operations of the VAE and of the speech encoder. Networks are neither fetched nor run: their time on a GPU is not
measured here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode

from cyberhost_model.config import EMBEDDED, FPS, preset
from cyberhost_model.lab.filmed.labels import pack_labels, read_labels, unpack_points, write_labels
from cyberhost_model.lab.filmed.manifest import ACCEPTED, Row
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.training.clip_encoder import EncoderConfig
from cyberhost_model.lab.training.coded import CodedClip, pack_features, pack_points, write_shard
from cyberhost_model.lab.training.filmed_clips import cut_clips, estimate_flow, read_filmed
from cyberhost_model.media.audio import SPEECH_RATE, Sound
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.crops import face_crop, hand_crops
from cyberhost_model.speech.wav2vec2 import Wav2Vec2Encoder

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 50
CLIP = 250  # frames of a clip of 10 s


def timed(what: Callable[[], object], times: int = 1) -> float:
    """Seconds of the processor that a call takes, the mean of `times`."""
    begun = time.process_time()
    for _ in range(times):
        what()
    return (time.process_time() - begun) / times


def made_clip(folder: Path, size: tuple[int, int]) -> Row:
    """A dataset of one clip: a drawn person who is moved about, so that there is something to decode and to find."""
    still = drawn_still(1)
    picture = cv2.resize(still.picture_u8, size)
    rng, frames = np.random.default_rng(0), []
    for i in range(FRAMES):
        shift = np.float32([[1, 0, 6 * np.sin(i / 7)], [0, 1, 3 * np.cos(i / 5)]])
        frames.append(cv2.warpAffine(picture, shift, size, borderMode=cv2.BORDER_REPLICATE))
    sound = (0.1 * rng.standard_normal(FRAMES * SPEECH_RATE // 25)).astype(np.float32)
    write_video(iter(frames), folder / "a.mp4", FPS, Sound.from_samples(sound, SPEECH_RATE), overwrite=True)
    level = np.zeros(FRAMES, np.float32)
    write_labels(folder / "a.npz", pack_labels([still.keypoints] * FRAMES, size, level, level, level, "a"))
    return Row("a", ACCEPTED, "a", frames=FRAMES, width=size[0], height=size[1], video="a.mp4", labels="a.npz")


def core_seconds(folder: Path, size: tuple[int, int]) -> dict[str, float]:
    """Core seconds a frame of what a CPU does."""
    row = made_clip(folder, size)
    read = timed(lambda: read_filmed(folder, row), 2) / FRAMES
    filmed = read_filmed(folder, row)
    first, points = filmed.pictures[0], unpack_points(read_labels(folder / "a.npz"), 0)
    return {
        "read the video, its sound and labels": read,
        "optical flow": timed(lambda: [estimate_flow(picture, first) for picture in filmed.pictures[1:5]]) / 4,
        "cut and describe": timed(lambda: [*cut_clips(filmed, None, np.random.default_rng(0), 4, False)]) / FRAMES,
        "crops of a reference": timed(lambda: (face_crop(first, points), hand_crops(first, points)), 3),
    }


def clip_bytes(folder: Path, config: EncoderConfig, size: tuple[int, int]) -> tuple[int, dict[str, float]]:
    """(bytes of a shard of one clip of `CLIP` frames, core seconds of writing it and of reading a frame and a clip)."""
    shape, keys, still = config.shape, config.drawn_references, drawn_still(1)
    h, w = size[1] // shape.latent_factor, size[0] // shape.latent_factor
    features = torch.randn(2 * CLIP, shape.audio.layers, shape.audio.dim)
    tensors = {
        "z": torch.zeros(CLIP, shape.latent_channels, h, w).half(),
        "r": torch.zeros(keys, shape.latent_channels, h, w).half(),
        "face": torch.zeros(keys, 512).half(),
        "hands": torch.zeros(keys, 2, 3, 128, 128, dtype=torch.uint8),
        "hands_seen": torch.zeros(keys, 2),
        **pack_points([still.keypoints] * keys, "reference"),
        **pack_points([still.keypoints] * CLIP, "frame", torch.float16),
        "clarity": torch.zeros(CLIP),
        "heard": torch.zeros(CLIP, 4).half(),
        **pack_features(features, 0, CLIP, shape.audio.tokens, config.eight_bits),
        "sound": torch.zeros(CLIP * 640, dtype=torch.int16),
    }
    place = folder / f"{size[0]}x{size[1]}"
    written = timed(lambda: write_shard(place, {"a": tensors}))
    (file,) = place.iterdir()

    def read(frames: int) -> None:
        clip, at = CodedClip("a", file).open(), 100
        clip.latents(0, at - 4, at + frames)
        clip.windows(at, at + frames, shape.audio.tokens)
        clip.points("frame", at, at + frames)
        clip.reference(0)

    read(1)
    return file.stat().st_size, {
        "write": written / CLIP,
        "read 1": timed(lambda: read(1), 5),
        "read 12": timed(lambda: read(12), 5),
    }


def bytes_before(size: tuple[int, int]) -> float:
    """Bytes of a frame before shards: windows, and in each stretch of 32 frames a picture and its clip's sound."""
    shape = preset("sd15")
    latent = shape.latent_channels * (size[0] // 8) * (size[1] // 8) * 2
    windows = shape.audio.tokens * shape.audio.layers * shape.audio.dim * 2
    once = size[0] * size[1] * 3 + CLIP * 1280 + 2 * 3 * 128 * 128 + 1024 + latent
    return latent + windows + 2 * 3 * (18 + 42 + 68) + 12 + once / 32


def operations(size: tuple[int, int]) -> dict[str, float]:
    """Floating point operations: of the VAE's encoder and decoder for a frame, of wav2vec 2.0 base for a second."""
    from diffusers import AutoencoderKL
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    widths, blocks = (128, 256, 512, 512), 4
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            layers_per_block=2,
            latent_channels=4,
        )
        speech = Wav2Vec2Model(Wav2Vec2Config()).eval()
        picture, sound = torch.zeros(1, 3, size[1], size[0]), torch.zeros(1, SPEECH_RATE * 10)
        latent = torch.zeros(1, 4, size[1] // 8, size[0] // 8)
    found = {}
    for name, call in (
        ("encode a frame", lambda: vae.encode(picture)),
        ("decode a frame", lambda: vae.decode(latent)),
        ("a second of speech", lambda: speech(sound)),
    ):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call()
        found[name] = counter.get_total_flops() / (10 if "speech" in name else 1)
    return found


def feature_error() -> float:
    """Length of the error that 8 bits make, in lengths of the features: the embedded encoder on a recorded sentence."""
    samples, _ = soundfile.read(ROOT / "examples" / "speech_long.wav", dtype="float32")
    features = Wav2Vec2Encoder.from_pretrained(EMBEDDED / "tiny" / "speech").features(samples)
    kept = pack_features(features, 0, CLIP // 2, 6, True)
    exact = features[: len(kept["features"])]
    return float((kept["features"] * kept["features.scale"] - exact).norm() / exact.norm())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="640x384")
    parser.add_argument("--hours", type=float, default=200)
    options = parser.parse_args()
    width, _, height = options.size.partition("x")
    size, frames = (int(width), int(height)), options.hours * 3600 * FPS
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as made:
        cores = core_seconds(Path(made), size)
        counted, disk = {}, {}
        for kept in ("int8", "float16"):
            (place := Path(made) / kept).mkdir()
            counted[kept], disk = clip_bytes(place, EncoderConfig("sd15", features=kept), size)
    needed, error = operations(size), feature_error()
    result = {
        "hours": options.hours,
        "size": options.size,
        "core_ms_per_frame": {name: 1000 * value for name, value in cores.items()},
        "core_hours": {name: value * frames / 3600 for name, value in cores.items() if "reference" not in name},
        "write_core_hours": disk["write"] * frames / 3600,
        "read_ms": {name: 1000 * value for name, value in disk.items() if name != "write"},
        "terabytes_before": bytes_before(size) * frames / 1e12,
        "terabytes": {name: value / CLIP * frames / 1e12 for name, value in counted.items()},
        "feature_error": error,
        "teraflop": {name: value / 1e12 for name, value in needed.items()},
        "exaflop": (needed["encode a frame"] * frames + needed["a second of speech"] * options.hours * 3600) / 1e18,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
