"""The lower bound: diffusers' own U-Nets, called as diffusers means them, without anything of the paper."""

from __future__ import annotations

from benchmarks.implementations.shared import on


def parts(size, device, dtype, inputs):
    """A pass of the 2D U-Net, and steps of `UNetMotionModel` with 1 to 3 branches in one batch and a token of context
    for each frame.
    """
    from benchmarks.implementations.ours import sized
    from cyberhost_model.model.unet import build_motion_unet, build_unet2d

    preset = sized(size)
    channels = preset.latent_channels
    with device:
        unet2d = build_unet2d(preset.unet, channels).to(device, dtype).eval()
        unet = build_motion_unet(plainly(preset.unet), channels).to(device, dtype).eval()
    picture, token = on(device, dtype, 1, channels, *size.latent), on(device, dtype, 1, 1, size.context)

    def step(branches):
        noisy = on(device, dtype, branches, channels, size.frames, *size.latent)
        context = token.repeat(branches * size.frames, 1, 1)
        return lambda: unet(noisy, 601, encoder_hidden_states=context).sample

    steps = {f"step, {n} branch{'es' * (n > 1)}": step(n) for n in size.branches}
    return {"reference": lambda: unet2d(picture, 0, encoder_hidden_states=token), **steps}


def plainly(config):
    """The same sizes with whole motion modules, as AnimateDiff has them."""
    import dataclasses

    return dataclasses.replace(config, trim_motion=False)
