"""EchoMimicV2: its classes and its pipeline, with speech and hand poses."""

from __future__ import annotations

import wave

from benchmarks.implementations.peers import (
    GUIDANCE,
    POSE,
    SCHEDULE,
    at_home,
    decoding,
    on,
    reference_parts,
    unets,
    whole_jobs,
)

HEARD = 384
"""Width of Whisper tiny, which its cross attention reads."""


def parts(size, device, dtype, inputs):
    """See `peers.reference_parts`."""
    import numpy as np
    import torch
    from diffusers import DDIMScheduler
    from scripts.peer_parity import whisper_guide
    from src.models.mutual_self_attention import ReferenceAttentionControl
    from src.models.pose_encoder import PoseEncoder
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d_emo import EMOUNet3DConditionModel
    from src.pipelines.pipeline_echomimicv2 import EchoMimicV2Pipeline

    at_home(ReferenceAttentionControl, device, dtype)
    nets = unets(size, HEARD, device, dtype, UNet2DConditionModel, EMOUNet3DConditionModel)
    encoder = PoseEncoder(size.widths[0], conditioning_channels=3, block_out_channels=POSE).to(device, dtype).eval()
    h, w = size.pixels
    pose = encoder(torch.rand(1, 3, size.frames, h, w, device=device, dtype=dtype))
    audio = on(device, dtype, 1, size.frames, 50, HEARD)

    def denoise(noisy, branches):
        speech, place = (x if branches == 1 else torch.cat([torch.zeros_like(x), x]) for x in (audio, pose))
        nets[1](
            noisy,
            torch.tensor(601, device=device),
            encoder_hidden_states=None,
            audio_cond_fea=speech,
            face_musk_fea=place,
            return_dict=False,
        )

    net, decode = decoding(size, device, dtype)
    guide = whisper_guide()
    guide.model.to(device)
    pipeline = EchoMimicV2Pipeline(
        net, *nets, audio_guider=guide, pose_encoder=encoder, scheduler=DDIMScheduler(**SCHEDULE)
    )
    pipeline.set_progress_bar_config(disable=True)
    with wave.open(inputs["sound"]) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32767
    poses = torch.rand(1, 3, size.job_frames, h, w, device=device, dtype=dtype)

    def make(picture, steps):
        guided = GUIDANCE if size.branches[0] > 1 else 1.0
        return pipeline(
            picture, sound, poses, w, h, size.job_frames, steps, guided, context_frames=size.frames, fps=25
        ).videos

    def updating(branches):
        return {"do_classifier_free_guidance": branches == 2}

    found = reference_parts(
        size, device, dtype, nets, ReferenceAttentionControl, lambda branches: None, denoise, updating
    )
    return {**found, "decode": decode, **whole_jobs(size, inputs, "echomimic-v2", make)}
