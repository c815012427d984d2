"""Moore-AnimateAnyone: its classes and its pipeline, moved by skeleton maps; it hears nothing, its context is the
picture's CLIP token.
"""

from __future__ import annotations

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


def parts(size, device, dtype, inputs):
    """See `peers.reference_parts`."""
    import numpy as np
    import torch
    from diffusers import DDIMScheduler
    from PIL import Image
    from src.models.mutual_self_attention import ReferenceAttentionControl
    from src.models.pose_guider import PoseGuider
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d import UNet3DConditionModel
    from src.pipelines.pipeline_pose2vid_long import Pose2VideoPipeline  # the other one cannot make more than 32 frames
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    at_home(ReferenceAttentionControl, device, dtype)
    nets = unets(size, size.context, device, dtype, UNet2DConditionModel, UNet3DConditionModel)
    guider = PoseGuider(size.widths[0], block_out_channels=POSE).to(device, dtype).eval()
    h, w = size.pixels
    pose = guider(torch.rand(1, 3, size.frames, h, w, device=device, dtype=dtype))
    token = on(device, dtype, 1, 1, size.context)

    def context(branches):
        return token if branches == 1 else torch.cat([torch.zeros_like(token), token])

    def denoise(noisy, branches):
        nets[1](
            noisy,
            torch.tensor(601, device=device),
            encoder_hidden_states=context(branches),
            pose_cond_fea=pose.repeat(branches, 1, 1, 1, 1),
            return_dict=False,
        )

    net, decode = decoding(size, device, dtype)
    # the published model's: ViT-L/14
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    }
    small = {} if size.name == "small" else vision
    encoder = (
        CLIPVisionModelWithProjection(CLIPVisionConfig(**small, projection_dim=size.context)).to(device, dtype).eval()
    )
    pipeline = Pose2VideoPipeline(net, encoder, *nets, guider, DDIMScheduler(**SCHEDULE))
    pipeline.set_progress_bar_config(disable=True)
    maps = [
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (h, w, 3), np.uint8)) for i in range(size.job_frames)
    ]

    def make(picture, steps):
        guided = GUIDANCE if size.branches[0] > 1 else 1.0
        return pipeline(picture, maps, w, h, size.job_frames, steps, guided).videos

    found = reference_parts(size, device, dtype, nets, ReferenceAttentionControl, context, denoise, lambda branches: {})
    return {**found, "decode": decode, **whole_jobs(size, inputs, "animate-anyone", make)}
