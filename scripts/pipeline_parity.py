"""Run peers' own pipelines and `cyberhost` on the same picture, speech and poses, and compare what comes out.

    python scripts/pipeline_parity.py echomimic-v2 REPOSITORY --python PYTHON

REPOSITORY and PYTHON as for peer_parity.py. The peer's process makes its own classes at small widths with random
weights, saves them in its published format, and calls its own pipeline with its own scheduler, steps and guidance, in
fp32 on a CPU; this process converts the files and calls the library as a user does. Two lengths: one window, and three.
Compared: the final latents, by their deviation, and the frames, in levels of 255.
Ends with 1 where latents differ by more than 1e-3 of their deviation, or frames by more than a level.

Two things of the peers are set otherwise: the default device and the default precision of their reference attention
(a GPU and fp16, whatever the pipeline has), and what they import only to write or to look at videos.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import types
from pathlib import Path

from peer_parity import HEARD, MOTION, POSE, SHARED, WIDTHS, randomise, save_parts, whisper_encoder, whisper_guide

TOLERANCE = 1e-3  # of the latents' deviation
SIDE, FPS, SEED = 64, 24, 3407
LENGTHS = {"echomimic-v2": (6, 20), "echomimic-v2-fast": (6, 20), "animate-anyone": (9, 44)}
STEPS = {"echomimic-v2": 30, "echomimic-v2-fast": 6, "animate-anyone": 25}
GUIDANCE = {"echomimic-v2": 2.5, "echomimic-v2-fast": 1.0, "animate-anyone": 3.5}
CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=sorted(LENGTHS))
    parser.add_argument("repository", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--steps", type=int, help="Fewer steps, for a quick look.")
    parser.add_argument("--keep", type=Path, help="Folder for what both made. [default: removed]")
    parser.add_argument("--names", type=Path, help="Only write names and shapes of the full size to this .txt.gz.")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.names and not given.make:
        command = [given.python, __file__, given.peer, str(given.repository.resolve()), "--make", "."]
        subprocess.run([*command, "--names", str(given.names.resolve())], check=True, cwd=given.repository)
        return 0
    steps = given.steps or STEPS[given.peer]
    if given.make:
        sys.path.insert(0, str(given.repository))
        if given.names:
            list_names(given.peer, given.names)
        else:
            make(given.peer, given.make, steps)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        write_inputs(folder, max(LENGTHS[given.peer]))
        command = [given.python, __file__, given.peer, str(given.repository.resolve()), "--make", str(folder.resolve())]
        subprocess.run([*command, "--steps", str(steps)], check=True, cwd=given.repository)
        found = compare(given.peer, folder, steps)
    print(json.dumps({"peer": given.peer, "steps": steps, "videos": found}, indent=1))
    good = all(one["latents"] <= TOLERANCE and one["frames"] <= 1 for one in found)
    return 0 if good else 1


def write_inputs(folder: Path, frames: int) -> None:
    """A picture of a face, a sound, and a gesture as EchoMimicV2's pose folder and as drawn for AnimateAnyone."""
    import numpy as np
    from PIL import Image

    from cyberhost_model.conditions.pose_maps import dwpose_map
    from cyberhost_model.driving.template import fit_length, load_template

    source = Path(__file__).parents[1] / "examples/astronaut.jpg"
    face = Image.open(source).convert("RGB").crop((130, 30, 330, 230))
    face.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(folder / "picture.png")
    time = np.arange(round(16000 * frames / FPS)) / 16000
    sound = 0.3 * np.sin(2 * np.pi * (200 + 40 * time) * time) * np.sin(3 * time) ** 2
    np.save(folder / "sound.npy", (np.round(sound * 32767) / 32768).astype(np.float32))
    poses = fit_length(load_template("wave"), frames, FPS)
    (folder / "poses").mkdir()
    drawn = []
    for i in range(frames):
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
    from diffusers import AutoencoderKL

    for name in ("ffmpeg", "torchvision", "torchvision.transforms", "av", "IPython", "decord"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    with torch.no_grad():
        vae = AutoencoderKL(**blocks, block_out_channels=(16,) * 4, norm_num_groups=4, layers_per_block=1)
        randomise(vae)
        vae.save_pretrained(folder / "vae")
        pipeline = {"animate-anyone": moore_pipeline}.get(peer, echomimic_pipeline)(peer, folder, vae)
        decode, latents = pipeline.decode_latents, []
        pipeline.decode_latents = lambda z: latents.append(z) or decode(z)
        for frames in LENGTHS[peer]:
            video = run(peer, pipeline, folder, frames, steps)
            torch.save({"latents": latents.pop(), "video": video}, folder / f"made-{frames}.pt")


def list_names(peer: str, out: Path) -> None:
    """Write the names and shapes of the peer's classes at the published size: a line a weight, by file."""
    import gzip

    import torch
    from src.models.unet_2d_condition import UNet2DConditionModel

    full = {**SHARED, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}
    with torch.device("meta"):
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
    files = {
        "reference_unet.pth": reference,
        "denoising_unet.pth": {k: v for k, v in denoising.items() if "motion_modules" not in k},
        "motion_module.pth": {k: v for k, v in denoising.items() if "motion_modules" in k},
        **poses,
    }
    lines = [f"{file} {k} {','.join(map(str, v.shape))}" for file, state in files.items() for k, v in state.items()]
    out.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))


def scheduler():
    """As both programs' configuration files say."""
    from diffusers import DDIMScheduler
    from omegaconf import OmegaConf

    settings = OmegaConf.load("configs/inference/inference_v2.yaml")
    return DDIMScheduler(**OmegaConf.to_container(settings.noise_scheduler_kwargs))


def on_a_cpu(control) -> None:
    """The defaults of its reference attention: the CPU and fp32 in place of a GPU and fp16."""
    import torch

    for function in (control.register_reference_hooks, control.update):
        swap = {torch.float16: torch.float32, torch.device("cuda"): torch.device("cpu")}
        function.__defaults__ = tuple(
            swap.get(d, d) if isinstance(d, (torch.dtype, torch.device)) else d for d in function.__defaults__
        )


def echomimic_pipeline(peer: str, folder: Path, vae):
    import torch
    from src.models.mutual_self_attention import ReferenceAttentionControl
    from src.models.pose_encoder import PoseEncoder
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d_emo import EMOUNet3DConditionModel

    if peer == "echomimic-v2-fast":
        from src.pipelines.pipeline_echomimicv2_acc import EchoMimicV2Pipeline
    else:
        from src.pipelines.pipeline_echomimicv2 import EchoMimicV2Pipeline
    on_a_cpu(ReferenceAttentionControl)
    shared = {**SHARED, "cross_attention_dim": HEARD}
    reference, denoising = UNet2DConditionModel(**shared), EMOUNet3DConditionModel(**shared, **MOTION)
    encoder = PoseEncoder(WIDTHS[0], conditioning_channels=3, block_out_channels=POSE)
    randomise(reference, denoising, encoder)
    save_parts(folder, reference, denoising, encoder, "pose_encoder.pth")
    if peer == "echomimic-v2-fast":
        for name in ("denoising_unet", "motion_module"):
            (folder / f"{name}.pth").rename(folder / f"{name}_acc.pth")
    guide = whisper_guide()
    state = guide.model.state_dict()
    torch.save({name: value for name, value in state.items() if name.startswith("encoder.")}, folder / "whisper.pt")
    return EchoMimicV2Pipeline(
        vae=vae,
        reference_unet=reference,
        denoising_unet=denoising,
        audio_guider=guide,
        pose_encoder=encoder,
        scheduler=scheduler(),
    )


def moore_pipeline(peer: str, folder: Path, vae):
    from src.models.mutual_self_attention import ReferenceAttentionControl
    from src.models.pose_guider import PoseGuider
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d import UNet3DConditionModel
    from src.pipelines.pipeline_pose2vid_long import Pose2VideoPipeline
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    on_a_cpu(ReferenceAttentionControl)
    reference, denoising = UNet2DConditionModel(**SHARED), UNet3DConditionModel(**SHARED, **MOTION)
    guider = PoseGuider(WIDTHS[0], block_out_channels=POSE)
    width = SHARED["cross_attention_dim"]
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP, projection_dim=width, image_size=224, patch_size=56))
    randomise(reference, denoising, guider, clip)
    save_parts(folder, reference, denoising, guider, "pose_guider.pth")
    clip.save_pretrained(folder / "image")
    return Pose2VideoPipeline(
        vae=vae,
        image_encoder=clip,
        reference_unet=reference,
        denoising_unet=denoising,
        pose_guider=guider,
        scheduler=scheduler(),
    )


def run(peer: str, pipeline, folder: Path, frames: int, steps: int):
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
    sound = np.load(folder / "sound.npy")[: round(16000 * frames / FPS)]
    shared |= {"context_frames": 12, "context_overlap": 3, "fps": FPS}
    return pipeline(
        picture, sound, torch.stack(poses, 1)[None], SIDE, SIDE, frames, steps, GUIDANCE[peer], **shared
    ).videos


# in this process


def compare(peer: str, folder: Path, steps: int) -> list[dict]:
    """Make the same videos with the converted model, and measure how they differ."""
    import numpy as np
    import torch

    from cyberhost_model.driving.pose_folder import read_pose_folder
    from cyberhost_model.media.audio import Sound
    from cyberhost_model.media.image import load_picture
    from cyberhost_model.runtime.render import Rendering

    host, found = host_of(peer, folder), []
    poses = dataclasses.replace(read_pose_folder(folder / "poses"), fps=float(FPS))
    picture, sound = load_picture(folder / "picture.png"), np.load(folder / "sound.npy")
    for frames in LENGTHS[peer]:
        options = {"retarget": False, "seed": SEED, "fps": float(FPS), "size": SIDE, "steps": steps}
        options |= {"half_body": False}  # the picture is as its program takes it
        taken = poses.cut(0, frames)
        if peer == "animate-anyone":
            animation = host.reenact(picture, taken, audio=None, **options)
        else:
            speech = Sound.from_samples(sound[: round(16000 * frames / FPS)], 16000)
            animation = host.multimodal(picture, speech, taken, **options)
        given = torch.load(folder / f"made-{frames}.pt", weights_only=True)
        theirs = given["latents"].transpose(1, 2)
        ours = Rendering(host.renderer, animation.job, lambda line: None).sample_windows()
        shown = np.stack(list(animation.frames)).astype(float)
        expected = given["video"][0].permute(1, 2, 3, 0).numpy() * 255
        found.append(
            {
                "frames": float(np.abs(shown - expected).max()),
                "latents": float((ours - theirs).abs().max() / theirs.std()),
                "frames of the video": frames,
                "change at borders over inside": seams(shown, host.model.network.preset, steps),
                "deviation of the latents": float(theirs.std()),
                "deviation of the frames": float(expected.std()),
            }
        )
    return found


def seams(shown, preset, steps: int) -> float | None:
    """Mean change between frames where a window of the last step begins or ends, over that elsewhere.

    None for one window. With random weights frames differ by their noise, which hides all but a hard jump.
    """
    import numpy as np

    from cyberhost_model.sampler.windows import plan_windows

    total, sampling = len(shown), preset.sampling
    windows = plan_windows(total, preset.frames, sampling.overlap, (steps - 1) * sampling.window_shift)
    edges = {frame for window in windows for frame in (window[0] - 1, window[-1])}
    border = np.isin(np.arange(total - 1), list(edges))
    change = np.abs(np.diff(shown, axis=0)).mean((1, 2, 3))
    return None if len(windows) == 1 else float(change[border].mean() / change[~border].mean())


def host_of(peer: str, folder: Path):
    """The peer's files converted as the adapter says, but for the sizes, as a model on the CPU."""
    import torch

    from cyberhost_model import CyberHost
    from cyberhost_model.codecs.sd_vae import SdVaeCodec
    from cyberhost_model.hub.registry import load_adapter
    from cyberhost_model.model.condition_encoders import ImageToken
    from cyberhost_model.perception.registry import embedded_detector
    from cyberhost_model.runtime.loading import Model

    adapter = load_adapter(peer)
    full = adapter.full_size()
    driven = peer == "animate-anyone"
    width = SHARED["cross_attention_dim"] if driven else HEARD
    unet = dataclasses.replace(full.unet, block_out_channels=WIDTHS, cross_attention_dim=width)
    small = dataclasses.replace(full, unet=unet, size=(SIDE, SIDE))
    network = adapter.network({"network": folder}, small).network
    model = Model(
        network,
        SdVaeCodec.load(folder / "vae"),
        None if driven else whisper_encoder(folder),
        embedded_detector(),
        ImageToken.load(folder / "image") if driven else None,
    )
    if driven:  # a network without speech is given the embedded encoder, as by the adapter
        from cyberhost_model.config import EMBEDDED
        from cyberhost_model.speech.registry import load_speech

        model.speech = load_speech(EMBEDDED / "tiny/speech")
    return CyberHost(model, torch.device("cpu"), torch.float32)


if __name__ == "__main__":
    raise SystemExit(main())
