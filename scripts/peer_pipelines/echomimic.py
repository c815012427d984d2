"""EchoMimic and its checkpoint of six steps: heads that speak, in overlapping windows."""

from __future__ import annotations

from pathlib import Path

from peer_parity import POSE, WIDTHS, randomise, whisper_guide

from peer_pipelines.shared import (
    RATE,
    SD15,
    SIDE,
    converted,
    make_vae,
    on_a_cpu,
    read_wav,
    record,
    rendered,
    save_whisper_weights,
    settings_and_scheduler,
    stand_in,
    write_picture_and_sounds,
)

STEPS = {"echomimic": 30, "echomimic-fast": 6}
FPS, SEED = 25, 420
SECONDS = {"one": 0.43, "several": 1.1}
"""A window is 12 frames."""
GROWN = (18, 13, 46, 47)
"""The box of the face grown, in whole pixels, as EchoMimic is told it."""


def write_inputs(peer: str, folder: Path) -> None:
    write_picture_and_sounds(folder, SECONDS)


# in the peer's process


def make(peer: str, folder: Path, steps: int) -> None:
    """Run EchoMimic's Audio2VideoPipeline as infer_audio2vid.py does, or infer_audio2vid_acc.py, for both lengths."""
    import importlib

    import torch
    from diffusers import DiffusionPipeline  # noqa: F401  (looks for what is installed, before anything stands in)
    from PIL import Image
    from transformers import CLIPImageProcessor  # noqa: F401

    stand_in_for_files()
    fast = peer == "echomimic-fast"
    pipelines = importlib.import_module(f"src.pipelines.pipeline_echo_mimic{'_acc' if fast else ''}")
    from src.models.mutual_self_attention import ReferenceAttentionControl
    from src.models.whisper.whisper import audio

    on_a_cpu(ReferenceAttentionControl)
    audio.load_audio = lambda path: read_wav(path)[0]
    extra, scheduler = settings_and_scheduler()
    pipe = pipelines.Audio2VideoPipeline(**make_parts(folder, extra, fast), scheduler=scheduler)
    mask = torch.zeros(1, 1, 1, SIDE, SIDE)
    mask[..., GROWN[1] : GROWN[3], GROWN[0] : GROWN[2]] = 1
    picture, kept = Image.open(folder / "picture.png"), []
    record(pipelines.Audio2VideoPipeline, "decode_latents", kept, result=False)
    for length, seconds in SECONDS.items():
        sound, frames = str(folder / f"{length}.wav"), -(-round(seconds * RATE) * FPS // RATE)
        given = {"context_frames": 12, "context_overlap": 3, "fps": FPS, "audio_sample_rate": RATE}
        given["generator"] = torch.manual_seed(SEED)
        made = pipe(picture, sound, mask, SIDE, SIDE, frames, steps, 1.0 if fast else 2.5, **given).videos
        torch.save({"latents": kept.pop(), "frames": made[0]}, folder / f"{length}.pt")


def stand_in_for_files() -> None:
    """Stand in for what EchoMimic imports for files and detectors."""
    for name in ("torchvision", "ffmpeg", "xformers.ops"):
        stand_in(name)


def networks(size: dict, extra: dict, widths: tuple[int, ...]):
    """Build its three networks by its own classes."""
    from src.models.face_locator import FaceLocator
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d_echo import EchoUNet3DConditionModel

    reference = UNet2DConditionModel.from_config({**size, "cross_attention_dim": 768})
    denoising = EchoUNet3DConditionModel.from_config(size, **extra)
    return reference, denoising, FaceLocator(widths[0], conditioning_channels=1, block_out_channels=POSE)


def files_of(reference, denoising, locator, fast: bool) -> dict:
    """Lay its weights out as they are published."""
    state, ending = denoising.state_dict(), "_acc" if fast else ""
    return {
        "reference_unet.pth": dict(reference.state_dict()),
        f"denoising_unet{ending}.pth": {k: v for k, v in state.items() if "motion_modules" not in k},
        f"motion_module{ending}.pth": {k: v for k, v in state.items() if "motion_modules" in k},
        "face_locator.pth": dict(locator.state_dict()),
    }


def make_parts(folder: Path, extra: dict, fast: bool) -> dict:
    """Write all parts of the model, small, and return those that its pipeline takes."""
    import torch

    reference, denoising, locator = made = networks({**SD15, "block_out_channels": WIDTHS}, extra, WIDTHS)
    randomise(*made)
    for name, weights in files_of(*made, fast).items():
        torch.save(weights, folder / name)
    guide = whisper_guide()
    save_whisper_weights(guide, folder)
    return {
        "vae": make_vae(folder / "vae"),
        "reference_unet": reference,
        "denoising_unet": denoising,
        "audio_guider": guide,
        "face_locator": locator,
    }


def list_names(peer: str) -> dict:
    """Build the published files at their size, without numbers."""
    from diffusers import DiffusionPipeline  # noqa: F401
    from transformers import CLIPImageProcessor  # noqa: F401

    stand_in_for_files()
    made = networks(SD15, settings_and_scheduler()[0], SD15["block_out_channels"])
    return files_of(*made, peer == "echomimic-fast")


# in this process


def ours(peer: str, folder: Path, length: str, steps: int, theirs: dict, shake) -> tuple:
    """Animate with the converted model: its host, latents and frames. The seed gives the peer's noise."""
    import dataclasses

    from cyberhost_model.porting.echomimic import full_size
    from cyberhost_model.runtime import render

    full = full_size(peer)
    unet = dataclasses.replace(full.unet, block_out_channels=WIDTHS)
    host = converted(peer, folder, dataclasses.replace(full, size=(SIDE, SIDE), unet=unet), "whisper")
    draw = render.draw_window_noise
    render.draw_window_noise = lambda *args: shake(draw(*args))
    try:
        sound = folder / f"{length}.wav"
        animation = host.animate(folder / "picture.png", sound, seed=SEED, steps=steps, size=SIDE, head=False)
        return host, *rendered(host, animation)
    finally:
        render.draw_window_noise = draw
