"""What the two peers share: both are of the AnimateAnyone family.

Runs in their environments, on their own classes with random weights.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.peer_parity import MOTION

from benchmarks.implementations.shared import jobs, on, vae

POSE = (16, 32, 96, 256)
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": False,
    "steps_offset": 1,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
"""Of their inference_v2.yaml."""
GUIDANCE = 2.5


def sized(size, context: int) -> dict:
    """Arguments of their 2D U-Net; their 3D one takes `MOTION` besides."""
    return {
        "block_out_channels": size.widths,
        "cross_attention_dim": context,
        "attention_head_dim": 8,
        "layers_per_block": 2,
    }


def unets(size, context, device, dtype, two, three):
    """(Reference Net, Denoising U-Net) of their classes."""
    with device:
        nets = two(**sized(size, context)), three(**sized(size, context), **MOTION)
    return tuple(net.to(device, dtype).eval() for net in nets)


def at_home(control, device, dtype) -> None:
    """Their default device is a GPU and their default type fp16; here they are those that are measured."""
    import torch

    for hook in (control.register_reference_hooks, control.update):
        hook.__defaults__ = tuple(
            torch.device(device) if isinstance(d, torch.device) else dtype if isinstance(d, torch.dtype) else d
            for d in hook.__defaults__
        )


def reference_parts(size, device, dtype, nets, control, context, denoise, updating):
    """Their Reference Net's pass as their pipeline makes it with guidance, and steps with 1 and 2 branches.

    context(branches): tokens the Reference Net takes, or None; denoise(noisy, branches): a call of their Denoising
    U-Net; updating(branches): keywords of `update`.
    """
    import torch

    latent, timestep = on(device, dtype, 1, 4, *size.latent), torch.tensor(0, device=device)

    def prepared(branches):
        """Reader and writer put their hooks in place of what was there before."""
        guided = branches == 2
        return (
            control(net, do_classifier_free_guidance=guided, mode=mode, batch_size=1, fusion_blocks="full")
            for net, mode in zip(nets, ("write", "read"), strict=True)
        )

    state: dict = {}

    def read(branches):
        if state.get("branches") != branches:
            state["writer"], state["reader"] = prepared(branches)
            state["branches"] = branches
        state["writer"].clear()
        tokens = context(branches)
        rows = latent if tokens is None else latent.repeat(branches, 1, 1, 1)
        nets[0](rows, timestep, encoder_hidden_states=tokens, return_dict=False)
        state["reader"].update(state["writer"], **updating(branches))

    def step(branches):
        noisy = on(device, dtype, branches, 4, size.frames, *size.latent)

        def run():
            denoise(noisy, branches)

        return branches, run

    found = {"reference": lambda: read(2)}
    for branches in (n for n in size.branches if n < 3):
        found[f"step, {branches} branch{'es' * (branches > 1)}"] = _after_reading(read, state, *step(branches))
    return found


def _after_reading(read, state, branches, run):
    """A step needs what the Reference Net left in the hooks; where that is of another number of branches, it is read
    anew, which the first round pays.
    """

    def measured():
        if state.get("branches") != branches:
            read(branches)
        run()

    return measured


def whole_jobs(size, inputs, name, make):
    """Frames by their pipeline (`make(picture, steps)` -> (1, 3, F, H, W) in 0..1), then H.264 and AAC.

    Their own writers encode twice; this is the least it takes.
    """
    from PIL import Image

    h, w = size.pixels

    def run(steps):
        video = make(Image.open(inputs["picture"]), steps)[0]
        frames = (video.permute(1, 2, 3, 0) * 255).round().clamp(0, 255).byte().numpy()
        command = [
            inputs["ffmpeg"],
            "-y",
            "-v",
            "error",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-s",
            f"{w}x{h}",
            "-r",
            "25",
            "-i",
            "pipe:0",
        ]
        command += ["-i", inputs["sound"], "-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p", "-c:a", "aac"]
        subprocess.run([*command, str(Path(inputs["folder"]) / f"{name}.mp4")], input=frames.tobytes(), check=True)

    return jobs(size, run)


def decoding(size, device, dtype):
    """(their VAE, which is Stable Diffusion's; decoding as their pipeline does it: frame by frame, to float32 on the
    CPU).
    """
    import torch

    net = vae(size, device, dtype)
    latents = on(device, dtype, size.decoded, 4, *size.latent)

    def decode():
        frames = torch.cat([net.decode(latents[i : i + 1] / 0.18215).sample for i in range(len(latents))])
        return (frames / 2 + 0.5).clamp(0, 1).cpu().float().numpy()

    return net, decode
