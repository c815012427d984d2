"""What the families share: inputs, small parts with random weights, stand-ins, and the converted model."""

from __future__ import annotations

import sys
import types
import wave
from pathlib import Path

from peer_parity import HEARD, WHISPER_NAMES, randomise

SIDE, RATE = 64, 16000
FACE = (20.0, 16.0, 44.0, 45.0)
"""Box of the face with its forehead in the picture, x0, y0, x1, y1, before it is grown."""
LIPS = (26.0, 35.0, 38.0, 40.0)
SD15 = {
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
    "layers_per_block": 2,
    "center_input_sample": False,
    "in_channels": 4,
    "out_channels": 4,
}
"""Of a published config.json, what the peers' networks read."""


# what both processes read


def write_picture_and_sounds(folder: Path, seconds: dict[str, float]) -> None:
    """A smooth picture with dark and light places, and something like a voice: a WAV of 16 bits for each length."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * x - 6 * y), np.sin(9 * x * y + 1)]
    Image.fromarray(np.stack([(w * 0.5 + 0.5) * 255 for w in waves], -1).astype(np.uint8)).save(folder / "picture.png")
    for length, lasting in seconds.items():
        time = np.arange(round(lasting * RATE)) / RATE
        sound = 0.3 * np.sin(2 * np.pi * (200 + 40 * time) * time) * np.sin(3 * time) ** 2 + 0.02
        with wave.open(str(folder / f"{length}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((sound * 32767).astype("<i2").tobytes())


def read_wav(path, sr=RATE):
    """As librosa.load of a file with this rate."""
    import numpy as np

    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768, sr


# in the peer's process


class StandIn(types.ModuleType):
    """A module of which any name can be imported, and used for nothing."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_in(name: str, **parts) -> None:
    """Stand in for the module `name` and those it lies in."""
    names = name.split(".")
    for count in range(1, len(names) + 1):
        module = sys.modules.setdefault(".".join(names[:count]), StandIn(".".join(names[:count])))
        module.__path__ = []
        if count > 1:
            setattr(sys.modules[".".join(names[: count - 1])], names[count - 1], module)
    sys.modules[name].__dict__.update(parts)


def make_vae(folder: Path):
    """Write a small VAE of Stable Diffusion's kind, whose decoded pictures have contrast."""
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(**blocks, block_out_channels=(8,) * 4, norm_num_groups=4, layers_per_block=1)
    randomise(vae)
    vae.save_pretrained(folder)
    return vae


def save_whisper_weights(guide, folder: Path) -> None:
    """Write the encoder of the peer's copy of Whisper as it is published."""
    import torch

    state = guide.model.state_dict()
    torch.save({name: value for name, value in state.items() if name.startswith("encoder.")}, folder / "whisper.pt")


def settings_and_scheduler():
    """The settings of the family's inference_v2.yaml, and the scheduler that it describes."""
    from diffusers import DDIMScheduler
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(OmegaConf.load("configs/inference/inference_v2.yaml"))
    return settings["unet_additional_kwargs"], DDIMScheduler(**settings["noise_scheduler_kwargs"])


def on_a_cpu(control) -> None:
    """The defaults of its reference attention: the CPU and fp32 in place of a GPU and fp16."""
    import torch

    for function in (control.register_reference_hooks, control.update):
        swap = {torch.float16: torch.float32, torch.device("cuda"): torch.device("cpu")}
        function.__defaults__ = tuple(
            swap.get(d, d) if isinstance(d, (torch.dtype, torch.device)) else d for d in function.__defaults__
        )


def record(module, name: str, kept: list, result: bool = True) -> None:
    """Keep what a function of a module or class returns, or its last argument."""
    import torch

    original = getattr(module, name)

    def recording(*args, **kwargs):
        made = original(*args, **kwargs)
        kept.append((made if result else args[-1]).detach().clone().to(torch.float32))
        return made

    setattr(module, name, recording)


# in this process


def converted(peer: str, folder: Path, template, speech: str):
    """Convert the checkpoint once, as a user does but for its sizes, and load it on the CPU.

    Its detector finds the face where the peer was told it is.
    """
    from cyberhost_model import CyberHost
    from cyberhost_model.hub.registry import load_adapter
    from cyberhost_model.porting.convert import convert

    if not (folder / "model").exists():
        if speech == "whisper":
            save_whisper(folder / "whisper.pt", folder / "whisper")
        own = {"network": folder, "vae": folder / "vae", "speech": folder / speech, "image": folder / "image"}
        parts = {part: str(own[part]) for part in load_adapter(peer).parts if part in own and own[part].exists()}
        convert(peer, folder / "model", {**parts, "detector": "embedded"}, template=template)
    host = CyberHost.from_pretrained(folder / "model", device="cpu", precision="fp32")
    host.model.detector = known_face()
    return host


def rendered(host, animation) -> tuple:
    """Render a video -> its final latents (1, C, F, h, w) and frames uint8 (F, H, W, 3)."""
    import numpy as np
    import torch

    from cyberhost_model.runtime.render import Rendering

    rendering, kept = Rendering(host.renderer, animation.job, lambda line: None), []
    latents = rendering.latents
    rendering.latents = lambda: (kept.append(z) or z for z in latents())
    frames = np.stack(list(rendering.frames()))
    return torch.cat(kept, 1).transpose(1, 2), frames


def known_face():
    """A detector that finds the face where the peer was told it is."""
    import numpy as np

    from cyberhost_model.conditions.face_region import FOREHEAD
    from cyberhost_model.perception.detector import WholeBodyDetector
    from cyberhost_model.perception.keypoints import Keypoints

    found = Keypoints.empty()
    brows = (FACE[1] + FOREHEAD * FACE[3]) / (1 + FOREHEAD)
    found.face[:] = np.array([(FACE[0] + FACE[2]) / 2, (brows + FACE[3]) / 2]) / SIDE
    found.face[:2] = np.array([[FACE[0], brows], [FACE[2], FACE[3]]]) / SIDE
    found.face[48:] = np.array([(LIPS[0] + LIPS[2]) / 2, (LIPS[1] + LIPS[3]) / 2]) / SIDE
    found.face[48:50] = np.array([LIPS[:2], LIPS[2:]]) / SIDE
    found.face_score[:] = 1

    class Known(WholeBodyDetector):
        def people(self, picture_u8):
            return [found]

    return Known()


def save_whisper(weights: Path, folder: Path) -> None:
    """Write the encoder of the peer's copy of Whisper as transformers lays it out."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    size = {"d_model": HEARD, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 4 * HEARD}
    size |= {"decoder_layers": 1, "decoder_attention_heads": 6, "decoder_ffn_dim": 16, "vocab_size": 64}
    tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    model = WhisperForConditionalGeneration(WhisperConfig(**size, **tokens))
    own = model.model.encoder.state_dict()
    for name, value in torch.load(weights, weights_only=True).items():
        name = name.removeprefix("encoder.")
        for old, new in WHISPER_NAMES.items():
            name = name.replace(old, new)
        own[name].copy_(value)
    model.save_pretrained(folder)
