"""Convert peers' checkpoints and compare outputs, without their weights: their own classes at small widths, filled
with random numbers.

    python scripts/peer_parity.py animate-anyone REPOSITORY --python PYTHON

REPOSITORY is a copy of the peer's code (MooreThreads/Moore-AnimateAnyone, antgroup/echomimic_v2), PYTHON an interpreter
whose environment it runs in (diffusers 0.24 for the first and 0.27 or later for the other, einops, omegaconf); other
peers are compared by scripts/pipeline_parity.py. The peer's process saves a checkpoint in its own format, inputs and
outputs; this one converts and compares. Ends with 1 where a difference exceeds 1e-4.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TOLERANCE = 1e-4
WIDTHS, CONTEXT, FRAMES, SIZE = (32, 64, 96, 96), 24, 5, (16, 8)
POSE = (16, 32, 96, 256)
HEARD = 384  # width of Whisper tiny, which EchoMimic and EchoMimicV2 have in their code
WHISPER_NAMES = {
    "positional_embedding": "embed_positions.weight",
    "blocks.": "layers.",
    ".attn.query": ".self_attn.q_proj",
    ".attn.key": ".self_attn.k_proj",
    ".attn.value": ".self_attn.v_proj",
    ".attn.out": ".self_attn.out_proj",
    ".attn_ln": ".self_attn_layer_norm",
    ".mlp.0": ".fc1",
    ".mlp.2": ".fc2",
    ".mlp_ln": ".final_layer_norm",
    "ln_post": "layer_norm",
}
"""Parts of the names of Whisper's own code -> transformers'."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("repository", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    make, compare = PEERS[given.peer]
    if given.make:
        sys.path.insert(0, str(given.repository))
        import torch

        torch.manual_seed(0)
        with torch.no_grad():
            make(given.make)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        command = [given.python, __file__, given.peer, str(given.repository.resolve()), "--make", folder]
        subprocess.run(command, check=True, cwd=given.repository)
        found = compare(Path(folder))
    print(json.dumps({"peer": given.peer, **found}, indent=1))
    return 0 if all(value <= TOLERANCE for value in found["differences"].values()) else 1


# in the peer's process


def randomise(*modules) -> None:
    """Weights about as large as trained ones, none of them zero, so that every layer acts."""
    for module in modules:
        module.eval()
        for name, p in module.named_parameters():
            if p.ndim > 1:
                p.normal_(std=(2.0 / p[0].numel()) ** 0.5 * 0.6)
            elif name.endswith("weight"):
                p.uniform_(0.7, 1.3)
            else:
                p.normal_(std=0.1)


def save(folder: Path, **tensors) -> None:
    """What went in and what came out."""
    import torch

    torch.save(tensors, folder / "in_and_out.pt")


def save_parts(folder: Path, reference, denoising, pose, pose_file: str) -> None:
    """The four files of the family: motion modules apart."""
    import torch

    state = denoising.state_dict()
    torch.save(dict(reference.state_dict()), folder / "reference_unet.pth")
    torch.save({k: v for k, v in state.items() if "motion_modules" not in k}, folder / "denoising_unet.pth")
    torch.save({k: v for k, v in state.items() if "motion_modules" in k}, folder / "motion_module.pth")
    torch.save(dict(pose.state_dict()), folder / pose_file)


SHARED = {"block_out_channels": WIDTHS, "cross_attention_dim": CONTEXT, "attention_head_dim": 8, "layers_per_block": 2}
MOTION = {
    "use_inflated_groupnorm": True,
    "unet_use_cross_frame_attention": False,
    "unet_use_temporal_attention": False,
    "use_motion_module": True,
    "motion_module_resolutions": (1, 2, 4, 8),
    "motion_module_mid_block": True,
    "motion_module_decoder_only": False,
    "motion_module_type": "Vanilla",
    "motion_module_kwargs": {
        "num_attention_heads": 8,
        "num_transformer_block": 1,
        "attention_block_types": ["Temporal_Self", "Temporal_Self"],
        "temporal_position_encoding": True,
        "temporal_position_encoding_max_len": 32,
        "temporal_attention_dim_div": 1,
    },
}


def make_animate_anyone(folder: Path) -> None:
    import torch
    from src.models.mutual_self_attention import ReferenceAttentionControl
    from src.models.pose_guider import PoseGuider
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d import UNet3DConditionModel

    reference, denoising = UNet2DConditionModel(**SHARED), UNet3DConditionModel(**SHARED, **MOTION)
    guider = PoseGuider(WIDTHS[0], block_out_channels=POSE)
    randomise(reference, denoising, guider)
    save_parts(folder, reference, denoising, guider, "pose_guider.pth")

    token, latent = torch.randn(1, 1, CONTEXT), torch.randn(1, 4, *SIZE)
    noisy, pose = torch.randn(1, 4, FRAMES, *SIZE), torch.rand(1, 3, FRAMES, SIZE[0] * 8, SIZE[1] * 8)
    timestep = torch.tensor(601)
    writer = ReferenceAttentionControl(reference, mode="write", batch_size=1, fusion_blocks="full")
    reader = ReferenceAttentionControl(
        denoising, mode="read", batch_size=1, fusion_blocks="full", do_classifier_free_guidance=True
    )
    both = torch.cat([torch.zeros_like(token), token])  # as its pipeline: without and with the picture
    reference(latent.repeat(2, 1, 1, 1), torch.zeros_like(timestep), encoder_hidden_states=both, return_dict=False)
    reader.update(writer, dtype=torch.float32)
    encoded = guider(pose).repeat(2, 1, 1, 1, 1)
    out = denoising(
        noisy.repeat(2, 1, 1, 1, 1), timestep, encoder_hidden_states=both, pose_cond_fea=encoded, return_dict=False
    )[0]
    save(folder, token=token, latent=latent, noisy=noisy, pose=pose, timestep=timestep, without=out[:1], with_=out[1:])
    make_drawing(folder, draw_of_moore(*points_of_a_person()))


def points_of_a_person():
    """18 body points (x, y, score), 2 x 21 hand points and 68 face points, some of them not seen."""
    import numpy as np

    rng = np.random.default_rng(0)
    body = np.concatenate([rng.uniform(0.15, 0.85, (18, 2)), rng.uniform(0.2, 1.0, (18, 1))], 1)
    wrist = body[[4, 7], None, :2]
    hands = np.concatenate([wrist + rng.uniform(-0.08, 0.08, (2, 21, 2)), rng.uniform(0.1, 1.0, (2, 21, 1))], 2)
    face = np.concatenate([body[:1, :2] + rng.uniform(-0.1, 0.1, (68, 2)), rng.uniform(0.1, 1.0, (68, 1))], 1)
    return body.astype(np.float32), hands.astype(np.float32), face.astype(np.float32)


def make_drawing(folder: Path, picture) -> None:
    import torch

    torch.save(torch.from_numpy(picture), folder / "drawn.pt")


def draw_of_moore(body, hands, face):
    """uint8 (768, 512, 3), by the drawing code of AnimateAnyone's detector."""
    import numpy as np

    sys.path.insert(0, "src/dwpose")  # the package's own imports want its detector's libraries
    import util

    canvas = np.zeros((768, 512, 3), np.uint8)
    seen = np.where(body[:, 2] > 0.3, np.arange(18), -1)
    util.eps = 0.01
    canvas = util.draw_bodypose(canvas, body[:, :2], seen[None])
    canvas = util.draw_handpose(canvas, np.where(hands[..., 2:] < 0.3, -1, hands[..., :2]))
    return util.draw_facepose(canvas, np.where(face[None, :, 2:] < 0.3, -1, face[None, :, :2]))


def make_echomimic_v2(folder: Path) -> None:
    import torch
    from src.models.mutual_self_attention import ReferenceAttentionControl
    from src.models.pose_encoder import PoseEncoder
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d_emo import EMOUNet3DConditionModel

    hooks = ReferenceAttentionControl.register_reference_hooks  # its default device is a GPU
    hooks.__defaults__ = tuple(torch.device("cpu") if isinstance(d, torch.device) else d for d in hooks.__defaults__)
    reference, denoising = UNet2DConditionModel(**SHARED), EMOUNet3DConditionModel(**SHARED, **MOTION)
    encoder = PoseEncoder(WIDTHS[0], conditioning_channels=3, block_out_channels=POSE)
    randomise(reference, denoising, encoder)
    save_parts(folder, reference, denoising, encoder, "pose_encoder.pth")

    latent, noisy = torch.randn(1, 4, *SIZE), torch.randn(1, 4, FRAMES, *SIZE)
    pose, audio = torch.rand(1, 3, FRAMES, SIZE[0] * 8, SIZE[1] * 8), torch.randn(1, FRAMES, 50, CONTEXT)
    timestep = torch.tensor(601)
    writer = ReferenceAttentionControl(
        reference, do_classifier_free_guidance=True, mode="write", batch_size=1, fusion_blocks="full"
    )
    reader = ReferenceAttentionControl(
        denoising, do_classifier_free_guidance=True, mode="read", batch_size=1, fusion_blocks="full"
    )
    reference(latent, torch.zeros_like(timestep), encoder_hidden_states=None, return_dict=False)
    reader.update(writer, do_classifier_free_guidance=True, dtype=torch.float32)
    encoded = encoder(pose)  # its pipeline leaves the pose out beside the reference and the speech
    out = denoising(
        noisy.repeat(2, 1, 1, 1, 1),
        timestep,
        encoder_hidden_states=None,
        audio_cond_fea=torch.cat([torch.zeros_like(audio), audio]),
        face_musk_fea=torch.cat([torch.zeros_like(encoded), encoded]),
        return_dict=False,
    )[0]
    save(folder, audio=audio, latent=latent, noisy=noisy, pose=pose, timestep=timestep, without=out[:1], with_=out[1:])
    make_whisper(folder)
    from src.utils.dwpose_util import draw_pose_select_v2

    _, hands, _ = points_of_a_person()
    drawn = draw_pose_select_v2(
        {"bodies": None, "hands": hands[..., :2], "hands_score": hands[..., 2]}, 768, 768, ref_w=800
    )
    make_drawing(folder, drawn.transpose(1, 2, 0).copy())
    make_alignment(folder)


def people_to_align():
    """(size (W, H), body points (18, 2), face points (68, 2)) of people of whom all is seen."""
    import numpy as np

    rng = np.random.default_rng(1)
    for size in ((900, 1200), (1600, 900), (800, 800), (768, 1900)):
        body, _, face = points_of_a_person()
        body = 0.3 + 0.4 * body[:, :2] + rng.uniform(-0.15, 0.15, 2)
        body[7, 1] = body[4, 1]  # its notebook looks at the right wrist alone
        yield size, body, body[:1] + 0.1 * (face[:, :2] - face[:, :2].mean(0)) - [0, 0.2]


def make_alignment(folder: Path) -> None:
    """The squares that its notebook cuts out of pictures: top, bottom, left and right in pixels."""
    import ast

    import numpy as np
    import torch

    cells = json.loads(Path("demo.ipynb").read_text(encoding="utf-8"))["cells"]
    code = next(text for cell in cells if "def get_pose_params(" in (text := "".join(cell["source"])))
    wanted = ("get_pose_params", "resize_and_pad_param")
    functions = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    found = []
    for (width, height), body, face in people_to_align():
        names = {"np": np, "width": width, "height": height, "print": lambda *words: None}
        exec(compile(ast.Module(functions, []), "demo.ipynb", "exec"), names)
        pose = {
            "bodies": {"candidate": body.copy(), "score": np.ones((1, 18))},
            "faces": face[None],
            "faces_score": np.ones((1, 68)),
            "hands": np.zeros((2, 21, 2)),
            "hands_score": np.zeros((2, 21)),
        }
        found.append(names["get_pose_params"]([pose], 768)["video_params"])
    torch.save(torch.tensor(found, dtype=torch.float64), folder / "aligned.pt")


def whisper_guide():
    """Its reader of speech around its copy of Whisper tiny, at random weights."""
    from src.models.whisper import audio2feature
    from src.models.whisper.whisper.model import ModelDimensions, Whisper

    size = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": HEARD, "n_audio_head": 6, "n_audio_layer": 4}
    model = Whisper(
        ModelDimensions(**size, n_vocab=51865, n_text_ctx=4, n_text_state=16, n_text_head=4, n_text_layer=1)
    )
    randomise(model.encoder)
    guide = audio2feature.Audio2Feature.__new__(audio2feature.Audio2Feature)
    guide.model = model
    return guide


def make_whisper(folder: Path) -> None:
    """The features of its copy of Whisper, at random weights."""
    import numpy as np
    import torch

    guide = whisper_guide()
    state = guide.model.state_dict()
    torch.save({name: value for name, value in state.items() if name.startswith("encoder.")}, folder / "whisper.pt")
    time = np.arange(round(16000 * 3.21)) / 16000
    sound = (0.3 * np.sin(2 * np.pi * (200 + 40 * time) * time) * np.sin(3 * time) ** 2).astype(np.float32)
    features = guide.audio2feat(sound)
    chunks = guide.feature2chunks(features.reshape(-1, 5, HEARD), fps=25)
    save_as = {
        "sound": torch.from_numpy(sound),
        "features": torch.from_numpy(features),
        "chunks": torch.from_numpy(chunks),
    }
    torch.save(save_as, folder / "heard.pt")


# in this process


def compare_animate_anyone(folder: Path) -> dict:
    import dataclasses

    import torch

    from cyberhost_model.conditions.pose_maps import dwpose_map
    from cyberhost_model.hub.tensors import read_tensors
    from cyberhost_model.model.conditions import ClipInputs, ReferenceInputs
    from cyberhost_model.porting import animate_anyone

    full = animate_anyone.full_size()
    unet = dataclasses.replace(full.unet, block_out_channels=WIDTHS, cross_attention_dim=CONTEXT)
    small = dataclasses.replace(full, unet=unet, frames=FRAMES)
    converted = animate_anyone.collect({name: read_tensors(folder / name) for name in animate_anyone.FILES}).into(small)
    network, given = converted.network, torch.load(folder / "in_and_out.pt", weights_only=True)
    with torch.no_grad():
        video = network.reference_conditions(ReferenceInputs(given["latent"], image=given["token"][:, 0]))
        clip = network.clip_conditions(video, ClipInputs(pose=given["pose"].transpose(1, 2)))
        noisy, timestep = given["noisy"].transpose(1, 2), given["timestep"][None]
        with_ = network(noisy, timestep, clip).prediction.transpose(1, 2)
        without = network(noisy, timestep, clip.without_audio().without_reference()).prediction.transpose(1, 2)
    found = figures(
        converted, {"with the reference": (with_, given["with_"]), "without the reference": (without, given["without"])}
    )
    return merged(found, compare_drawing(folder, dwpose_map, (512, 768)))


def compare_echomimic_v2(folder: Path) -> dict:
    import dataclasses

    import torch

    from cyberhost_model.conditions.pose_maps import hand_map
    from cyberhost_model.hub.tensors import read_tensors
    from cyberhost_model.model.conditions import ClipInputs, ReferenceInputs
    from cyberhost_model.porting import echomimic_v2

    full = echomimic_v2.full_size()
    unet = dataclasses.replace(full.unet, block_out_channels=WIDTHS, cross_attention_dim=CONTEXT)
    small = dataclasses.replace(full, unet=unet, frames=FRAMES, audio=dataclasses.replace(full.audio, dim=CONTEXT))
    converted = echomimic_v2.collect({name: read_tensors(folder / name) for name in echomimic_v2.FILES}).into(small)
    network, given = converted.network, torch.load(folder / "in_and_out.pt", weights_only=True)
    with torch.no_grad():
        video = network.reference_conditions(ReferenceInputs(given["latent"]))
        audio = given["audio"].unflatten(2, (10, 5))  # steps of the encoder, its layers
        clip = network.clip_conditions(video, ClipInputs(audio, pose=given["pose"].transpose(1, 2)))
        noisy, timestep = given["noisy"].transpose(1, 2), given["timestep"][None]
        with_ = network(noisy, timestep, clip).prediction.transpose(1, 2)
        bare = dataclasses.replace(clip.without_audio().without_reference(), pose=None)
        without = network(noisy, timestep, bare).prediction.transpose(1, 2)
    found = figures(
        converted, {"with all conditions": (with_, given["with_"]), "with none": (without, given["without"])}
    )
    drawing = compare_drawing(folder, hand_map, (768, 768))
    return merged(found, compare_whisper(folder), drawing, compare_alignment(folder))


def whisper_encoder(folder: Path):
    """Our encoder with the peer's weights."""
    import torch

    from cyberhost_model.speech.whisper import WhisperEncoder

    size = {
        "d_model": HEARD,
        "encoder_layers": 4,
        "encoder_attention_heads": 6,
        "encoder_ffn_dim": 4 * HEARD,
        "num_mel_bins": 80,
    }
    encoder = WhisperEncoder(size).eval()
    state = {}
    for name, value in torch.load(folder / "whisper.pt", weights_only=True).items():
        name = name.removeprefix("encoder.")
        for old, new in WHISPER_NAMES.items():
            name = name.replace(old, new)
        if not name.startswith("ln_post"):
            state[f"model.{name}"] = value
    encoder.load_state_dict(state)
    return encoder


def compare_whisper(folder: Path) -> dict:
    """Speech features, and the window of them that each frame hears."""
    import torch

    from cyberhost_model.speech.encoder import frame_windows

    encoder = whisper_encoder(folder)
    heard = torch.load(folder / "heard.pt", weights_only=True)
    sound = heard["sound"].numpy()
    blocks = [sound[i : i + 7000] for i in range(0, len(sound), 7000)]
    ours = torch.cat(list(encoder.stream(blocks, encoder.level(blocks))))
    windows = frame_windows(ours, len(heard["chunks"]), 25.0, 10)
    pairs = {
        "speech features": (ours, heard["features"].reshape(ours.shape)),
        "windows": (windows.flatten(1, 2), heard["chunks"]),
    }
    return {
        "differences": {name: float((a - b).abs().max()) for name, (a, b) in pairs.items()},
        "outputs": {name: float(b.std()) for name, (_, b) in pairs.items()},
    }


def compare_drawing(folder: Path, draw, size: tuple[int, int]) -> dict:
    """The pose condition, in 0..1."""
    import torch

    from cyberhost_model.perception.keypoints import Keypoints

    points = Keypoints(*(array for part in points_of_a_person() for array in (part[..., :2], part[..., 2])))
    theirs = torch.load(folder / "drawn.pt", weights_only=True).permute(2, 0, 1) / 255
    ours = torch.from_numpy(draw(points, size))
    return {
        "differences": {"pose map": float((ours - theirs).abs().max())},
        "outputs": {"pose map": float(theirs.std())},
    }


def compare_alignment(folder: Path) -> dict:
    """The squares about half bodies: how far a side lies from the peer's, which rounds twice, beyond two pixels."""
    import numpy as np
    import torch

    from cyberhost_model.perception.crops import half_body_box
    from cyberhost_model.perception.keypoints import Keypoints

    theirs, apart = torch.load(folder / "aligned.pt", weights_only=True).numpy(), 0.0
    for (size, body, face), (top, bottom, left, right) in zip(people_to_align(), theirs, strict=True):
        person = Keypoints.empty()
        person.body[:], person.face[:], person.body_score[:], person.face_score[:] = body, face, 1, 1
        x0, y0, x1, y1 = half_body_box(person, size)
        sides = [y0 - top, y1 - bottom, max(x0, 0) - left]
        sides += [x1 - right] * (x0 >= 0)  # what the picture's left edge cuts off, it cuts off on the right too
        apart = max(apart, float(np.abs(sides).max()))
    return {
        "differences": {"half body, pixels beyond 2": max(0.0, apart - 2)},
        "outputs": {"half body, pixels beyond 2": float(theirs.std())},
    }


def merged(*found: dict) -> dict:
    """Figures of several comparisons as one."""
    return {
        key: {name: value for one in found for name, value in one.get(key, {}).items()}
        for key in ("weights", "differences", "outputs")
    }


def figures(converted, pairs: dict) -> dict:
    """Largest differences, and how large the outputs are."""
    counts = converted.counts()
    return {
        "weights": {"taken": counts.taken, "left_out": counts.left_out, "initial": counts.initial, "zero": counts.zero},
        "differences": {name: float((ours - theirs).abs().max()) for name, (ours, theirs) in pairs.items()},
        "outputs": {name: float(theirs.std()) for name, (_, theirs) in pairs.items()},
    }


PEERS = {
    "animate-anyone": (make_animate_anyone, compare_animate_anyone),
    "echomimic-v2": (make_echomimic_v2, compare_echomimic_v2),
}

if __name__ == "__main__":
    raise SystemExit(main())
