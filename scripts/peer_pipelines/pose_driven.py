"""AnimateAnyone and EchoMimicV2: people who follow poses, with and without speech."""

from __future__ import annotations

import sys
import types
from pathlib import Path

from peer_parity import CONTEXT, HEARD, MOTION, POSE, SHARED, WIDTHS, randomise, save_parts, whisper_guide

from peer_pipelines.shared import (
    RATE,
    SIDE,
    converted,
    make_vae,
    on_a_cpu,
    read_wav,
    rendered,
    save_whisper_weights,
    settings_and_scheduler,
    write_picture_and_sounds,
)

STEPS = {"animate-anyone": 25, "echomimic-v2": 30, "echomimic-v2-fast": 6}
GUIDANCE = {"animate-anyone": 3.5, "echomimic-v2": 2.5, "echomimic-v2-fast": 1.0}
FPS, SEED = 24, 3407
LENGTHS = {"animate-anyone": {"one": 9, "several": 44}, None: {"one": 6, "several": 20}}
CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def lengths(peer: str) -> dict[str, int]:
    """Frames of both videos: the windows of EchoMimicV2 are half as long."""
    return LENGTHS.get(peer, LENGTHS[None])


def write_inputs(peer: str, folder: Path) -> None:
    """A picture, sounds, and a gesture as EchoMimicV2's pose folder and as drawn for AnimateAnyone."""
    import numpy as np

    from cyberhost_model.conditions.pose_maps import dwpose_map
    from cyberhost_model.driving.template import fit_length, load_template

    write_picture_and_sounds(folder, {length: frames / FPS for length, frames in lengths(peer).items()})
    poses = fit_length(load_template("wave"), lengths(peer)["several"], FPS)
    (folder / "poses").mkdir()
    drawn = []
    for i in range(len(poses)):
        k = poses.frame(i)
        frame = {
            "bodies": {"candidate": k.body.astype(float), "subset": np.arange(18.0)[None], "score": k.body_score[None]},
            "hands": k.hands.astype(float),
            "hands_score": k.hands_score * 0.9,
            "faces": k.face[None].astype(float),
            "faces_score": k.face_score[None],
            "num": i,
            "draw_pose_params": [SIDE, SIDE, 0, SIDE, 0, SIDE],
        }
        np.save(folder / "poses" / f"{i}.npy", frame, allow_pickle=True)  # as EchoMimicV2's notebook does
        drawn.append((dwpose_map(k, (SIDE, SIDE)) * 255).round().astype(np.uint8))
    np.save(folder / "drawn.npy", np.stack(drawn))  # the drawing itself is compared by peer_parity.py


# in the peer's process


def make(peer: str, folder: Path, steps: int) -> None:
    """Make the peer's parts, run its pipeline for both lengths, save the parts and what came out."""
    import torch

    vae = make_vae(folder / "vae")  # before anything is stood in for: diffusers looks for what is installed
    for name in ("ffmpeg", "torchvision", "torchvision.transforms", "av", "IPython", "decord"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
    build = pipeline_of_animate_anyone if peer == "animate-anyone" else pipeline_of_echomimic
    pipeline = build(peer, folder, vae)
    decode, kept = pipeline.decode_latents, []
    pipeline.decode_latents = lambda z: kept.append(z) or decode(z)
    for length, frames in lengths(peer).items():
        video = run(peer, pipeline, folder, length, frames, steps)
        torch.save({"latents": kept.pop(), "frames": video[0]}, folder / f"{length}.pt")


def pipeline_of_echomimic(peer: str, folder: Path, vae):
    from src.models.mutual_self_attention import ReferenceAttentionControl
    from src.models.pose_encoder import PoseEncoder
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d_emo import EMOUNet3DConditionModel

    fast = peer == "echomimic-v2-fast"
    if fast:
        from src.pipelines.pipeline_echomimicv2_acc import EchoMimicV2Pipeline
    else:
        from src.pipelines.pipeline_echomimicv2 import EchoMimicV2Pipeline
    on_a_cpu(ReferenceAttentionControl)
    shared = {**SHARED, "cross_attention_dim": HEARD}
    reference, denoising = UNet2DConditionModel(**shared), EMOUNet3DConditionModel(**shared, **MOTION)
    encoder = PoseEncoder(WIDTHS[0], conditioning_channels=3, block_out_channels=POSE)
    randomise(reference, denoising, encoder)
    save_parts(folder, reference, denoising, encoder, "pose_encoder.pth")
    if fast:
        for name in ("denoising_unet", "motion_module"):
            (folder / f"{name}.pth").rename(folder / f"{name}_acc.pth")
    guide = whisper_guide()
    save_whisper_weights(guide, folder)
    return EchoMimicV2Pipeline(
        vae=vae,
        reference_unet=reference,
        denoising_unet=denoising,
        audio_guider=guide,
        pose_encoder=encoder,
        scheduler=settings_and_scheduler()[1],
    )


def pipeline_of_animate_anyone(peer: str, folder: Path, vae):
    from src.models.mutual_self_attention import ReferenceAttentionControl
    from src.models.pose_guider import PoseGuider
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d import UNet3DConditionModel
    from src.pipelines.pipeline_pose2vid_long import Pose2VideoPipeline
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    on_a_cpu(ReferenceAttentionControl)
    reference, denoising = UNet2DConditionModel(**SHARED), UNet3DConditionModel(**SHARED, **MOTION)
    guider = PoseGuider(WIDTHS[0], block_out_channels=POSE)
    config = CLIPVisionConfig(**CLIP, projection_dim=CONTEXT, image_size=224, patch_size=56)
    clip = CLIPVisionModelWithProjection(config)
    randomise(reference, denoising, guider, clip)
    save_parts(folder, reference, denoising, guider, "pose_guider.pth")
    clip.save_pretrained(folder / "image", safe_serialization=False)  # as it is published
    return Pose2VideoPipeline(
        vae=vae,
        image_encoder=clip,
        reference_unet=reference,
        denoising_unet=denoising,
        pose_guider=guider,
        scheduler=settings_and_scheduler()[1],
    )


def run(peer: str, pipeline, folder: Path, length: str, frames: int, steps: int):
    """Call the pipeline as its program does -> (1, 3, F, H, W) in 0..1."""
    import numpy as np
    import torch
    from PIL import Image

    picture = Image.open(folder / "picture.png").convert("RGB")
    shared = {"generator": torch.manual_seed(SEED)}
    if peer == "animate-anyone":
        drawn = [Image.fromarray(one.transpose(1, 2, 0)) for one in np.load(folder / "drawn.npy")[:frames]]
        return pipeline(picture, drawn, SIDE, SIDE, frames, steps, GUIDANCE[peer], **shared).videos
    from src.utils.dwpose_util import draw_pose_select_v2

    poses = []
    for i in range(frames):
        canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
        found = np.load(folder / "poses" / f"{i}.npy", allow_pickle=True).tolist()
        height, width, top, bottom, left, right = found["draw_pose_params"]
        canvas[top:bottom, left:right] = draw_pose_select_v2(found, height, width, ref_w=800).transpose(1, 2, 0)
        poses.append(torch.from_numpy(canvas).float().permute(2, 0, 1) / 255)
    sound = read_wav(folder / f"{length}.wav", RATE)[0]
    shared |= {"context_frames": 12, "context_overlap": 3, "fps": FPS}
    maps = torch.stack(poses, 1)[None]
    return pipeline(picture, sound, maps, SIDE, SIDE, frames, steps, GUIDANCE[peer], **shared).videos


def list_names(peer: str) -> dict:
    """The published files by the peer's classes at their size, without numbers."""
    from src.models.unet_2d_condition import UNet2DConditionModel

    full = {**SHARED, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}
    reference = UNet2DConditionModel(**full).state_dict()
    if peer == "animate-anyone":
        from src.models.pose_guider import PoseGuider
        from src.models.unet_3d import UNet3DConditionModel

        denoising = UNet3DConditionModel(**full, **MOTION).state_dict()
        poses = {"pose_guider.pth": PoseGuider(320, block_out_channels=POSE).state_dict()}
    else:
        from src.models.pose_encoder import PoseEncoder
        from src.models.unet_3d_emo import EMOUNet3DConditionModel

        denoising = EMOUNet3DConditionModel(**{**full, "cross_attention_dim": HEARD}, **MOTION).state_dict()
        encoder = PoseEncoder(320, conditioning_channels=3, block_out_channels=POSE)
        poses = {"pose_encoder.pth": encoder.state_dict()}
    return {
        "reference_unet.pth": reference,
        "denoising_unet.pth": {k: v for k, v in denoising.items() if "motion_modules" not in k},
        "motion_module.pth": {k: v for k, v in denoising.items() if "motion_modules" in k},
        **poses,
    }


# in this process


def ours(peer: str, folder: Path, length: str, steps: int, theirs: dict, shake) -> tuple:
    """Make the same video with the converted model: its host, latents and frames. The seed gives the peer's noise."""
    import dataclasses

    from cyberhost_model.driving.pose_folder import read_pose_folder
    from cyberhost_model.hub.registry import load_adapter
    from cyberhost_model.runtime import render

    full = load_adapter(peer).full_size()
    deaf = peer == "animate-anyone"
    unet = dataclasses.replace(
        full.unet, block_out_channels=WIDTHS, cross_attention_dim=CONTEXT if deaf else full.unet.cross_attention_dim
    )
    template = dataclasses.replace(full, unet=unet, size=(SIDE, SIDE))
    host = converted(peer, folder, template, "none" if deaf else "whisper")
    poses = dataclasses.replace(read_pose_folder(folder / "poses"), fps=float(FPS)).cut(0, lengths(peer)[length])
    options = {"seed": SEED, "fps": float(FPS), "size": SIDE, "steps": steps}
    options |= {"retarget": False, "half_body": False}  # poses and picture are as its program takes them
    draw = render.draw_window_noise
    render.draw_window_noise = lambda *args: shake(draw(*args))
    try:
        if deaf:
            animation = host.reenact(folder / "picture.png", poses, audio=None, **options)
        else:
            animation = host.multimodal(folder / "picture.png", folder / f"{length}.wav", poses, **options)
        return host, *rendered(host, animation)
    finally:
        render.draw_window_noise = draw
