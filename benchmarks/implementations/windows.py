"""This project as EchoMimicV2: its published network at the size that is measured, random, in overlapping windows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.implementations.shared import jobs, vae

WHISPER_TINY = {
    "d_model": 384,
    "encoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "num_mel_bins": 80,
}
GESTURE = "open_palms"


def sized(size):
    """The preset of the published checkpoint with a size's widths, pixels and frames of a window."""
    from cyberhost_model.porting.echomimic_v2 import full_size

    full = full_size()
    unet = dataclasses.replace(full.unet, block_out_channels=size.widths)
    return dataclasses.replace(full, size=size.pixels, frames=size.frames, unet=unet)


def model(size, device, dtype):
    """Everything a job needs, random but for the embedded model's detector."""
    from cyberhost_model.codecs.sd_vae import SdVaeCodec
    from cyberhost_model.model.network import CyberHostNetwork
    from cyberhost_model.runtime.loading import load_model
    from cyberhost_model.speech.whisper import WhisperEncoder

    with device:
        network, speech = CyberHostNetwork(sized(size)), WhisperEncoder(WHISPER_TINY)
    codec = SdVaeCodec(vae(size, device, dtype))
    return dataclasses.replace(load_model("tiny"), network=network, codec=codec, speech=speech).to(device, dtype)


def parts(size, device, dtype, inputs):
    """The whole job alone, beside the peer's own: its steps and its decoding are measured as those of `ours`."""
    from cyberhost_model.runtime.pipeline import CyberHost

    host = CyberHost(model(size, device, dtype), device, dtype)
    h, w = size.pixels

    def job(steps):
        scale = 2.5 if size.branches[0] > 1 else 1.0
        made = host.multimodal(
            inputs["picture"],
            inputs["sound"],
            GESTURE,
            fps=25,
            steps=steps,
            size=round((h * w) ** 0.5),
            guidance_reference=scale,
            guidance_audio=scale,
        )
        if made.n_frames != size.job_frames:
            raise ValueError(f"{made.n_frames} frames instead of {size.job_frames}")
        made.save(Path(inputs["folder"]) / "windows.mp4", overwrite=True)

    return jobs(size, job)
