"""This project: the embedded model's network, or the full design at other widths with random weights."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.implementations.shared import jobs, on, vae


def sized(size):
    """The preset of a size: tiny as it is, else sd15 with its widths and latents."""
    from cyberhost_model.config import preset

    if size.name == "tiny":
        return preset("tiny")
    full = preset("sd15")
    unet = dataclasses.replace(full.unet, block_out_channels=size.widths, cross_attention_dim=size.context)
    # crops describe the face: ArcFace's numbers come from elsewhere
    region = dataclasses.replace(full.region, face_channels=(64, 128, 256, 512, 512, 512))
    return dataclasses.replace(full, size=size.pixels, frames=size.frames, unet=unet, region=region)


def model(size, device, dtype):
    """Everything a job needs.

    What the size does not name is the embedded model's (its detector) or the paper's (wav2vec2-base).
    """
    from cyberhost_model.codecs.sd_vae import SdVaeCodec
    from cyberhost_model.model.network import CyberHostNetwork
    from cyberhost_model.runtime.loading import load_model
    from cyberhost_model.speech.wav2vec2 import SpeechConfig, Wav2Vec2Encoder

    tiny = load_model("tiny")
    if size.name == "tiny":
        return tiny.to(device, dtype)
    with device:  # random numbers by the thousand million are slow on a CPU
        speech = Wav2Vec2Encoder(SpeechConfig(wav2vec2={}, reach=None, target=1.0, motion_head=False))
        network = CyberHostNetwork(sized(size))
    return dataclasses.replace(tiny, network=network, codec=SdVaeCodec(vae(size, device, dtype)), speech=speech).to(
        device, dtype
    )


def drawn(size, preset, device, dtype):
    """Random inputs of a clip that follows another, by what `video_of` and `clip_of` call them."""
    channels, audio = preset.latent_channels, preset.audio
    draw = partial(on, device, dtype, 1)
    return {
        "latent": draw(channels, *size.latent),
        "maps": draw(1, 3, *size.pixels).sigmoid(),
        "face": draw(3, 256, 256),
        "hands": draw(2, 3, 128, 128),
        "audio": draw(size.frames, audio.tokens, audio.layers, audio.dim),
        "past": draw(preset.motion_frames, channels, *size.latent),
        "clarity": draw(size.frames).sigmoid(),
    }


def video_of(network, raw):
    """What is encoded once a video."""
    from cyberhost_model.model.conditions import ReferenceInputs

    return network.reference_conditions(ReferenceInputs(raw["latent"], raw["maps"][:, 0], raw["face"], raw["hands"]))


def clip_of(network, video, raw):
    """What is encoded once a clip."""
    from cyberhost_model.model.conditions import ClipInputs

    return network.clip_conditions(video, ClipInputs(raw["audio"], raw["past"], raw["maps"], None, raw["clarity"]))


def parts(size, device, dtype, inputs):
    """Also: the conditions of a clip that follows another, decoding, a whole job, and for the embedded model from its
    start to a first frame.
    """
    import torch

    from cyberhost_model.codecs.close_up import EYES, MOUTH, SIDE, make_close_up
    from cyberhost_model.runtime.pipeline import CyberHost
    from cyberhost_model.sampler.cuda_graphs import RecordedNetwork
    from cyberhost_model.sampler.guidance import Guidance, GuidedConditions

    built = model(size, device, dtype)
    network, codec, preset = built.network, built.codec, built.network.preset
    host = CyberHost(built, device, dtype, cuda_graphs=False)  # a job of the steps that are measured beside it
    channels, (h, w) = preset.latent_channels, size.pixels
    raw, picture = drawn(size, preset, device, dtype), on(device, dtype, 1, 3, h, w).clamp(-1, 1)
    video = video_of(network, raw)
    given = clip_of(network, video, raw)

    def step(branches, predictor=network):
        guided = GuidedConditions(given, guidance(branches, Guidance))
        noisy = on(device, dtype, 1, size.frames, channels, *size.latent)
        timestep = torch.full((1,), 601.0, device=device)

        def run():
            return guided.predict(predictor, noisy, timestep)

        run.inside = network.denoising_unet.fixed_weights  # as a job's steps are: it is entered once a clip
        return run

    z = 0.1 * on(device, dtype, 1, size.decoded, channels, *size.latent)
    # as jobs decode with the reference codec: a face of a sixth of the picture's height
    close_ups = [
        make_close_up(
            picture,
            part,
            (w // 3, h // 8),
            round(part.side * h / 6),
            torch.rand(1, 3, SIDE // 16, SIDE // 16, device=device, dtype=dtype),
        )
        for part in (MOUTH, EYES)
        if size.name == "tiny"
    ]

    def job(steps):
        scales = guidance(size.branches[0], Guidance)
        made = host.animate(
            inputs["picture"],
            inputs["sound"],
            steps=steps,
            size=round((h * w) ** 0.5),
            guidance_reference=scales.reference,
            guidance_audio=scales.audio,
        )
        if made.n_frames != size.job_frames:
            raise ValueError(f"{made.n_frames} frames instead of {size.job_frames}")
        made.save(Path(inputs["folder"]) / "ours.mp4", overwrite=True)

    found = {"reference": lambda: video_of(network, raw), "clip's conditions": lambda: clip_of(network, video, raw)}
    found |= {f"step, {n} branch{'es' * (n > 1)}": step(n) for n in size.branches}
    if device.type == "cuda":
        for n in size.branches:
            found[f"step, {n} branch{'es' * (n > 1)}, CUDA graph"] = recorded = step(
                n, RecordedNetwork(network, fail, lambda: None)
            )
            with recorded.inside():
                recorded(), recorded()  # the second one is recorded
    found |= {"decode": lambda: codec.decode(z, picture, picture, close_ups), **jobs(size, job)}
    if size.name == "tiny":
        found["start to first frame"] = lambda: first_frame(inputs, device)
    return found


def guidance(branches, cls):
    """Scales that need so many branches."""
    return {1: cls(1.0, 1.0), 2: cls(2.5, 2.5), 3: cls(2.5, 4.5)}[branches]


def fail(line) -> None:
    """Of a recording: what is timed must be what its name says."""
    raise RuntimeError(line)


def first_frame(inputs, device) -> None:
    """The embedded model in a process of its own, from the start of Python."""
    code = (
        "import sys; from cyberhost_model import CyberHost; next(CyberHost.from_pretrained('tiny', "
        "device=sys.argv[3]).animate(*sys.argv[1:3]).frames)"
    )
    subprocess.run([sys.executable, "-c", code, inputs["picture"], inputs["sound"], device.type], check=True)
