"""Run peers' own programs as a whole, at small widths with random weights, and compare latents and frames with ours.

    python scripts/family_parity.py hallo2 REPOSITORY --python PYTHON

REPOSITORY is a copy of the peer's code (fudan-generative-vision/hallo or hallo2, antgroup/echomimic), PYTHON an
interpreter whose environment it runs in (diffusers 0.31, or 0.24 for EchoMimic; transformers 4, einops, omegaconf,
opencv). The peer's process writes a checkpoint in its own format, a picture and speech, and runs its own inference
script on them; this one converts the checkpoint and makes the same video. The peer's noise is handed to us, and so is
where the face is: both programs find it by detectors of their own. What the peer imports for files and detectors alone
(torchvision, moviepy, librosa, mediapipe, insightface, ...) is stood in for here; its `fp16` copies of reference
features are kept in fp32.

Prints, for one clip or window and for several, the largest difference of latents and frames over the deviation of the
peer's. Ends with 1 where one exceeds 1e-3.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import types
import wave
from functools import partial
from pathlib import Path

TOLERANCE = 1e-3
WIDTHS, CONTEXT, SIDE, STEPS = (32, 64, 64, 64), 24, 64, 2
SECONDS = {"one": 0.59, "several": 1.1}
WINDOW_SECONDS = {"one": 0.43, "several": 1.1}
"""EchoMimic's: a window is 12 frames, where a clip of Hallo is 16."""
RATE = 16000
FACE = (20.0, 16.0, 44.0, 45.0)
"""Box of the face with its forehead in the picture, x0, y0, x1, y1, before it is grown."""
LIPS = (26.0, 35.0, 38.0, 40.0)
GROWN = (18, 13, 46, 47)
"""That box grown, in whole pixels: what EchoMimic is told."""
WHISPER = 384
"""Width of Whisper tiny, which EchoMimic has in its code."""
HEARD = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("repository", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--keep", type=Path, help="folder for what is made; what lies there is compared again")
    parser.add_argument("--sensitivity", action="store_true", help="also what the noise's last bit changes in ours")
    parser.add_argument("--names", type=Path, help="only write names and shapes of the full-size checkpoint (.txt.gz)")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    make, ours, list_names = PEERS[given.peer]
    if given.make:
        sys.path.insert(0, str(given.repository))
        import torch

        torch.manual_seed(0)
        if given.names:
            with torch.device("meta"):
                write_names(list_names(), given.names)
        else:
            make(given.make, given.peer)
        return 0
    if given.names:
        command = [given.python, __file__, given.peer, str(given.repository.resolve()), "--make", "."]
        return subprocess.run([*command, "--names", str(given.names.absolute())], cwd=given.repository).returncode
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(given.keep.absolute()) if given.keep else temporary
        Path(folder).mkdir(exist_ok=True)
        command = [given.python, __file__, given.peer, str(given.repository.resolve()), "--make", folder]
        if not all((Path(folder) / f"{length}.pt").exists() for length in SECONDS):
            subprocess.run(command, check=True, cwd=given.repository, stdout=sys.stderr)
        found = {length: compare(ours, Path(folder), given.peer, length, given.sensitivity) for length in SECONDS}
    print(json.dumps({"peer": given.peer, **found}, indent=1))
    return 0 if all(one[what] <= TOLERANCE for one in found.values() for what in ("latents", "frames")) else 1


def compare(ours, folder: Path, peer: str, length: str, sensitivity: bool) -> dict:
    """Compare our video with the peer's, and ours with ours of a noise that differs by rounding."""
    import torch

    theirs = torch.load(folder / f"{length}.pt", weights_only=True)
    latents, frames = ours(folder, peer, length, theirs)
    found = figures(latents, frames, theirs["latents"], theirs["frames"])
    if sensitivity:
        signs = torch.Generator().manual_seed(0)
        theirs["noises"] = [x * (1 + 2**-23 * torch.randn(x.shape, generator=signs).sign()) for x in theirs["noises"]]
        other, shown = ours(folder, peer, length, theirs)
        found["own change by the noise's last bit"] = figures(
            other, shown, latents, torch.from_numpy(frames).permute(3, 0, 1, 2) / 255
        )
    return found


# what both processes make


def make_picture(folder: Path) -> Path:
    """A smooth picture with dark and light places."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * x - 6 * y), np.sin(9 * x * y + 1)]
    path = folder / "picture.png"
    Image.fromarray(np.stack([(w * 0.5 + 0.5) * 255 for w in waves], -1).astype(np.uint8)).save(path)
    return path


def make_sound(folder: Path, length: str, seconds: float) -> Path:
    """Something like a voice, as a WAV of 16 bits."""
    import numpy as np

    time = np.arange(round(seconds * RATE)) / RATE
    sound = 0.3 * np.sin(2 * np.pi * (200 + 40 * time) * time) * np.sin(3 * time) ** 2 + 0.02
    path = folder / f"{length}.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


# in the peer's process


def randomise(*modules) -> None:
    """Weights about as large as trained ones, none of them zero, so that every layer acts."""
    for module in modules:
        for name, p in module.named_parameters():
            if p.ndim > 1:
                p.data.normal_(std=(2.0 / p[0].numel()) ** 0.5 * 0.6)
            elif name.endswith("weight"):
                p.data.uniform_(0.7, 1.3)
            else:
                p.data.normal_(std=0.1)


def write_names(files: dict, path: Path) -> None:
    """Write a line for every weight: file, name, shape."""
    import gzip

    lines = [
        f"{file} {name} {'x'.join(map(str, value.shape)) or '-'}"
        for file, weights in files.items()
        for name, value in weights.items()
    ]
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(("\n".join(lines) + "\n").encode())


SD15 = {
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
    "layers_per_block": 2,
    "center_input_sample": False,
    "in_channels": 4,
    "out_channels": 4,
}
"""Of a published config.json, what the peers' networks read."""


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


def read_wav(path, sr=RATE):
    """As librosa.load of a file with this rate."""
    import numpy as np

    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768, sr


def stand_in_torchvision() -> None:
    """Resizing and conversion of pictures, as torchvision does them with Pillow."""
    import numpy as np
    import torch
    from PIL import Image

    def compose(steps):
        def run(picture):
            for step in steps:
                picture = step(picture)
            return picture

        return run

    def resize(size):
        return lambda picture: picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)

    def to_tensor():
        def run(picture):
            array = np.array(picture, copy=True)
            return torch.from_numpy(array[..., None] if array.ndim == 2 else array).permute(2, 0, 1).float() / 255

        return run

    def normalize(mean, std):
        return lambda tensor: (tensor - mean[0]) / std[0]

    stand_in("torchvision.transforms", Compose=compose, Resize=resize, ToTensor=to_tensor, Normalize=normalize)


def make_vae(folder: Path) -> None:
    """A small VAE of Stable Diffusion's kind, whose decoded pictures have contrast."""
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(**blocks, block_out_channels=(8,) * 4, norm_num_groups=4, layers_per_block=1)
    randomise(vae)
    vae.save_pretrained(folder)


def record(module, name: str, kept: list, result: bool = True) -> None:
    """Keep what a function of a module or class returns, or its last argument."""
    import torch

    original = getattr(module, name)

    def recording(*args, **kwargs):
        made = original(*args, **kwargs)
        kept.append((made if result else args[-1]).detach().clone().to(torch.float32))
        return made

    setattr(module, name, recording)


def make_hallo(folder: Path, peer: str) -> None:
    """Run scripts/inference.py of Hallo, or scripts/inference_long.py of Hallo2, for both lengths."""
    import importlib

    import numpy as np
    import torch

    # before anything is stood in for, as these look for what is installed
    from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline  # noqa: F401
    from omegaconf import OmegaConf
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model  # noqa: F401

    embedding = make_stand_ins_of_hallo()
    script = importlib.import_module("scripts.inference_long" if peer == "hallo2" else "scripts.inference")
    from hallo.animate import face_animate
    from hallo.datasets import audio_processor
    from hallo.models.mutual_self_attention import ReferenceAttentionControl
    from hallo.utils import util

    ReferenceAttentionControl.update.__defaults__ = (torch.float32,)
    audio_processor.resample_audio = lambda source, out, rate: source
    audio_processor.AudioProcessor.__init__.__defaults__ = (None, None, "", "cpu")
    load = audio_processor.Wav2VecModel.from_pretrained  # newer transformers want this said, for its attentions
    audio_processor.Wav2VecModel.from_pretrained = partial(load, attn_implementation="eager")
    landmarks = np.tile(np.array([[(FACE[0] + FACE[2]) / 2, (FACE[1] + FACE[3]) / 2]]), (478, 1))
    landmarks[util.silhouette_ids[:2]] = FACE[:2], FACE[2:]
    landmarks[util.lip_ids] = (LIPS[0] + LIPS[2]) / 2, (LIPS[1] + LIPS[3]) / 2
    landmarks[util.lip_ids[:2]] = LIPS[:2], LIPS[2:]
    util.get_landmark = lambda file: (landmarks, SIDE, SIDE)
    projection, locator = script.AudioProjModel, script.FaceLocator
    heard = {"blocks": HEARD["num_hidden_layers"], "channels": HEARD["hidden_size"]}
    script.AudioProjModel = lambda **size: projection(
        **{**size, **heard, "intermediate_dim": 16, "output_dim": CONTEXT}
    )
    script.FaceLocator = lambda conditioning_embedding_channels: locator(WIDTHS[0])

    config = OmegaConf.load(f"configs/inference/{'long' if peer == 'hallo2' else 'default'}.yaml")
    config.merge_with(make_parts_of_hallo(folder, script, config))
    OmegaConf.save(config, folder / "config.yaml")
    torch.save(embedding, folder / "embedding.pt")
    picture = make_picture(folder)
    noises, kept, drawn, videos = [], [], [], []
    record(face_animate, "randn_tensor", noises)
    record(face_animate.FaceAnimatePipeline, "decode_latents", kept, result=False)
    record(torch, "rand", drawn)
    script.tensor_to_video_batch = script.tensor_to_video = lambda tensor, *args, **kwargs: videos.append(tensor)
    for length in SECONDS:
        for one in (noises, kept, drawn, videos):
            one.clear()
        sound = make_sound(folder, length, SECONDS[length])
        given = {"source_image": str(picture), "driving_audio": str(sound), "config": str(folder / "config.yaml")}
        script.inference_process(argparse.Namespace(**given, checkpoint=None, output=str(folder / "out.mp4")))
        result = {
            "noises": noises,
            "latents": torch.cat(kept, 2),
            "drawn": [d for d in drawn if d.ndim == 2],
            "frames": torch.cat(videos, 1),
        }
        torch.save(result, folder / f"{length}.pt")


def names_of_hallo() -> dict:
    """Build net.pth at the published size, without numbers."""
    import importlib

    from diffusers import AutoencoderKL, DDIMScheduler  # noqa: F401
    from omegaconf import OmegaConf
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model  # noqa: F401

    make_stand_ins_of_hallo()
    long = Path("scripts/inference_long.py").exists()
    script = importlib.import_module("scripts.inference_long" if long else "scripts.inference")
    config = OmegaConf.load(f"configs/inference/{'long' if long else 'default'}.yaml")
    size = {**SD15, "cross_attention_dim": 768}
    extra = OmegaConf.to_container(config.unet_additional_kwargs)
    net = script.Net(
        script.UNet2DConditionModel.from_config(size),
        script.UNet3DConditionModel.from_config(size, **extra),
        script.FaceLocator(conditioning_embedding_channels=320),
        script.ImageProjModel(cross_attention_dim=768, clip_embeddings_dim=512, clip_extra_context_tokens=4),
        script.AudioProjModel(
            seq_len=5, blocks=12, channels=768, intermediate_dim=512, output_dim=768, context_tokens=32
        ),
    )
    return {"net.pth": net.state_dict()}


def make_stand_ins_of_hallo():
    """Stand in for what Hallo imports for files and detectors; returns the face's descriptor that they then find."""
    import shutil

    import torch

    embedding = torch.randn(512, generator=torch.Generator().manual_seed(5)) * 0.9

    class Faces:
        models: dict = {}

        def __init__(self, *args, **kwargs):
            pass

        def prepare(self, *args, **kwargs):
            pass

        def get(self, picture):
            return [{"bbox": FACE, "embedding": embedding.numpy()}]

    class Separated:
        model_instance, output_dir = 1, ""

        def __init__(self, *args, **kwargs):
            pass

        def load_model(self, name):
            pass

        def separate(self, path):
            return [str(Path(path).resolve())]

    class Whole:  # sounds shorter than a minute are one piece
        def __init__(self, path):
            self.path = path

        @classmethod
        def from_wav(cls, path):
            return cls(path)

        def __len__(self):
            return round(len(read_wav(self.path)[0]) / RATE * 1000)

        def __getitem__(self, piece):
            return self

        def export(self, path, format):
            shutil.copy(self.path, path)

    stand_in_torchvision()
    stand_in("insightface.app", FaceAnalysis=Faces)
    stand_in("audio_separator.separator", Separator=Separated)
    stand_in("librosa", load=read_wav)
    stand_in("pydub", AudioSegment=Whole)
    stand_in("icecream", ic=lambda *args: None)
    for name in ("mediapipe", "moviepy.editor", "xformers.ops"):
        stand_in(name)
    return embedding


def make_parts_of_hallo(folder: Path, script, config) -> dict:
    """Write all parts of the model, small; returns what the configuration must say of them."""
    import torch
    from omegaconf import OmegaConf
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    size = {"block_out_channels": WIDTHS, "cross_attention_dim": CONTEXT, "attention_head_dim": 8}
    # a published config.json has these entries, and the peer's code reads them
    size |= {"center_input_sample": False, "in_channels": 4, "out_channels": 4, "layers_per_block": 2}
    script.UNet2DConditionModel.from_config(size).save_pretrained(folder / "base/unet")
    make_vae(folder / "vae")
    listener = Wav2Vec2Model(Wav2Vec2Config(**HEARD, conv_dim=[8] * 7, num_conv_pos_embedding_groups=2))
    randomise(listener)
    listener.save_pretrained(folder / "wav2vec2")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "wav2vec2")
    extra = OmegaConf.to_container(config.unet_additional_kwargs) | {"audio_attention_dim": CONTEXT}
    denoising = script.UNet3DConditionModel.from_pretrained_2d(
        folder / "base", folder / "none", subfolder="unet", unet_additional_kwargs=extra, use_landmark=False
    )
    net = script.Net(
        script.UNet2DConditionModel.from_pretrained(folder / "base", subfolder="unet"),
        denoising,
        script.FaceLocator(conditioning_embedding_channels=320),
        script.ImageProjModel(cross_attention_dim=CONTEXT, clip_embeddings_dim=512, clip_extra_context_tokens=4),
        script.AudioProjModel(seq_len=5, context_tokens=32),
    )
    randomise(net)
    torch.save(dict(net.state_dict()), folder / "net.pth")
    return {
        "weight_dtype": "fp32",
        "data": {"source_image": {"width": SIDE, "height": SIDE}},
        "inference_steps": STEPS,
        "audio_ckpt_dir": str(folder),
        "save_path": str(folder / "out"),
        "base_model_path": str(folder / "base"),
        "motion_module_path": str(folder / "none"),
        "wav2vec": {"model_path": str(folder / "wav2vec2")},
        "vae": {"model_path": str(folder / "vae")},
        "unet_additional_kwargs": {"audio_attention_dim": CONTEXT},
    }


def make_echomimic(folder: Path, peer: str) -> None:
    """Run EchoMimic's Audio2VideoPipeline as infer_audio2vid.py does, or infer_audio2vid_acc.py, for both lengths."""
    import importlib

    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline  # noqa: F401
    from omegaconf import OmegaConf
    from PIL import Image
    from transformers import CLIPImageProcessor  # noqa: F401

    stand_in_for_echomimic()
    fast = peer == "echomimic-fast"
    pipelines = importlib.import_module(f"src.pipelines.pipeline_echo_mimic{'_acc' if fast else ''}")
    from src.models.mutual_self_attention import ReferenceAttentionControl
    from src.models.whisper.whisper import audio

    hooks = ReferenceAttentionControl.register_reference_hooks  # its default device may be a GPU
    hooks.__defaults__ = tuple(torch.device("cpu") if isinstance(d, torch.device) else d for d in hooks.__defaults__)
    ReferenceAttentionControl.update.__defaults__ = (False, torch.float32)
    audio.load_audio = lambda path: read_wav(path)[0]
    settings = OmegaConf.load("configs/inference/inference_v2.yaml")
    parts = make_parts_of_echomimic(folder, OmegaConf.to_container(settings.unet_additional_kwargs), fast)
    scheduler = DDIMScheduler(**OmegaConf.to_container(settings.noise_scheduler_kwargs))
    pipe = pipelines.Audio2VideoPipeline(**parts, scheduler=scheduler)
    mask = torch.zeros(1, 1, 1, SIDE, SIDE)
    mask[..., GROWN[1] : GROWN[3], GROWN[0] : GROWN[2]] = 1
    picture, noises, kept = Image.open(make_picture(folder)), [], []
    record(pipelines, "randn_tensor", noises)
    record(pipelines.Audio2VideoPipeline, "decode_latents", kept, result=False)
    for length, seconds in WINDOW_SECONDS.items():
        noises.clear(), kept.clear()
        sound, frames = make_sound(folder, length, seconds), -(-round(seconds * RATE) * 25 // RATE)
        given = {"context_frames": 12, "context_overlap": 3, "fps": 25, "audio_sample_rate": RATE}
        given["generator"] = torch.manual_seed(420)
        made = pipe(picture, str(sound), mask, SIDE, SIDE, frames, STEPS, 1.0 if fast else 2.5, **given).videos
        torch.save({"noises": list(noises), "latents": kept[0], "frames": made[0]}, folder / f"{length}.pt")


def stand_in_for_echomimic() -> None:
    """Stand in for what EchoMimic imports for files and detectors."""
    for name in ("torchvision", "ffmpeg", "xformers.ops"):
        stand_in(name)


def networks_of_echomimic(size: dict, extra: dict, widths: tuple[int, ...]):
    """Build its three networks by its own classes."""
    from src.models.face_locator import FaceLocator
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d_echo import EchoUNet3DConditionModel

    reference = UNet2DConditionModel.from_config({**size, "cross_attention_dim": 768})
    denoising = EchoUNet3DConditionModel.from_config(size, **extra)
    locator = FaceLocator(widths[0], conditioning_channels=1, block_out_channels=(16, 32, 96, 256))
    return reference, denoising, locator


def files_of_echomimic(reference, denoising, locator, fast: bool) -> dict:
    """Lay its weights out as they are published."""
    state, ending = denoising.state_dict(), "_acc" if fast else ""
    return {
        "reference_unet.pth": dict(reference.state_dict()),
        f"denoising_unet{ending}.pth": {k: v for k, v in state.items() if "motion_modules" not in k},
        f"motion_module{ending}.pth": {k: v for k, v in state.items() if "motion_modules" in k},
        "face_locator.pth": dict(locator.state_dict()),
    }


def make_parts_of_echomimic(folder: Path, extra: dict, fast: bool) -> dict:
    """Write all parts of the model, small, and return those that its pipeline takes."""
    import torch
    from diffusers import AutoencoderKL
    from src.models.whisper.audio2feature import Audio2Feature
    from src.models.whisper.whisper.model import ModelDimensions, Whisper

    networks = networks_of_echomimic({**SD15, "block_out_channels": WIDTHS}, extra, WIDTHS)
    size = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": WHISPER, "n_audio_head": 6, "n_audio_layer": 4}
    whisper = Whisper(
        ModelDimensions(**size, n_vocab=51865, n_text_ctx=4, n_text_state=16, n_text_head=4, n_text_layer=1)
    )
    randomise(*networks, whisper.encoder)
    for name, weights in files_of_echomimic(*networks, fast).items():
        torch.save(weights, folder / name)
    torch.save({k: v for k, v in whisper.state_dict().items() if k.startswith("encoder.")}, folder / "whisper.pt")
    make_vae(folder / "vae")
    guider = Audio2Feature.__new__(Audio2Feature)
    guider.model = whisper.eval()
    reference, denoising, locator = (network.eval() for network in networks)
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    return {
        "vae": vae,
        "reference_unet": reference,
        "denoising_unet": denoising,
        "audio_guider": guider,
        "face_locator": locator,
    }


def names_of_echomimic() -> dict:
    """Build the published files at their size, without numbers."""
    from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline  # noqa: F401
    from omegaconf import OmegaConf
    from transformers import CLIPImageProcessor  # noqa: F401

    stand_in_for_echomimic()
    settings = OmegaConf.load("configs/inference/inference_v2.yaml")
    extra = OmegaConf.to_container(settings.unet_additional_kwargs)
    return files_of_echomimic(*networks_of_echomimic(SD15, extra, SD15["block_out_channels"]), False)


# in this process


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


def animate_hallo(folder: Path, peer: str, length: str, theirs: dict) -> tuple:
    """Convert the checkpoint, animate the same picture with the same speech, noise and dropped pixels."""
    import dataclasses

    import numpy as np
    import torch

    from cyberhost_model import CyberHost
    from cyberhost_model.porting.convert import convert
    from cyberhost_model.porting.hallo import full_size
    from cyberhost_model.runtime import render
    from cyberhost_model.sampler import denoise

    full = full_size(peer)
    template = dataclasses.replace(
        full,
        size=(SIDE, SIDE),
        unet=dataclasses.replace(full.unet, block_out_channels=WIDTHS, cross_attention_dim=CONTEXT),
        audio=dataclasses.replace(full.audio, dim=HEARD["hidden_size"], layers=HEARD["num_hidden_layers"]),
        portrait=dataclasses.replace(full.portrait, audio_hidden=16),
        sampling=dataclasses.replace(full.sampling, steps=STEPS),
    )
    model = folder / "model"
    if not model.exists():
        own = {"network": folder, "vae": folder / "vae", "speech": folder / "wav2vec2"}
        convert(peer, model, {**{k: str(v) for k, v in own.items()}, "detector": "embedded"}, template=template)
    host = CyberHost.from_pretrained(model, device="cpu", precision="fp32")
    embedding = torch.load(folder / "embedding.pt", weights_only=True).numpy()
    host.model.detector = known_face()
    host.model.face = types.SimpleNamespace(describe=lambda picture: embedding, to=lambda device: None)
    noises = iter([noise.transpose(1, 2) for noise in theirs["noises"]])
    drawn, latents = iter(theirs["drawn"]), []
    denoise.smooth_noise = lambda *args: next(noises)
    rand, torch.rand = torch.rand, lambda *size, **kwargs: next(drawn)
    sample = render.Rendering.sample
    render.Rendering.sample = lambda self, *args: latents.append(sample(self, *args)) or latents[-1]
    try:
        frames = np.stack(list(host.animate(folder / "picture.png", folder / f"{length}.wav", head=False).frames))
    finally:
        torch.rand, render.Rendering.sample = rand, sample
    return torch.cat(latents, 1).transpose(1, 2), frames


def animate_echomimic(folder: Path, peer: str, length: str, theirs: dict) -> tuple:
    """Convert the checkpoint, animate the same picture with the same speech and noise."""
    import dataclasses

    import numpy as np

    from cyberhost_model import CyberHost
    from cyberhost_model.porting.convert import convert
    from cyberhost_model.porting.echomimic import full_size
    from cyberhost_model.runtime import render

    full = full_size(peer)
    template = dataclasses.replace(
        full,
        size=(SIDE, SIDE),
        unet=dataclasses.replace(full.unet, block_out_channels=WIDTHS),
        sampling=dataclasses.replace(full.sampling, steps=STEPS),
    )
    model = folder / "model"
    if not model.exists():
        save_whisper(folder / "whisper.pt", folder / "whisper")
        own = {"network": folder, "vae": folder / "vae", "speech": folder / "whisper"}
        convert(peer, model, {**{k: str(v) for k, v in own.items()}, "detector": "embedded"}, template=template)
    host = CyberHost.from_pretrained(model, device="cpu", precision="fp32")
    host.model.detector = known_face()
    limit = full.sampling.noise_limit
    render.draw_window_noise = lambda *args: theirs["noises"][0].transpose(1, 2).clamp(-limit, limit)
    latents, sample = [], render.Rendering.sample_windows
    render.Rendering.sample_windows = lambda self: latents.append(sample(self)) or latents[-1]
    try:
        frames = np.stack(list(host.animate(folder / "picture.png", folder / f"{length}.wav", head=False).frames))
    finally:
        render.Rendering.sample_windows = sample
    return latents[0].transpose(1, 2), frames


def save_whisper(weights: Path, folder: Path) -> None:
    """Write the encoder of the peer's copy of Whisper as transformers lays it out."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    size = {"d_model": WHISPER, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 4 * WHISPER}
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


def figures(latents, frames, their_latents, their_frames) -> dict:
    """Differences over deviations; frames are uint8 here and float there, so half a level of 255 is allowed for."""
    import torch

    assert latents.shape == their_latents.shape, (latents.shape, their_latents.shape)
    ours = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 255
    assert ours.shape == their_frames.shape, (ours.shape, their_frames.shape)
    rounded = (their_frames * 255).round() / 255
    apart = (ours - their_frames).abs().sub(0.5 / 255).clamp_min(0)
    return {
        "clips": len(frames),
        "latents": float((latents - their_latents).abs().max() / their_latents.std()),
        "latents' deviation": float(their_latents.std()),
        "frames": float(apart.max() / their_frames.std()),
        "frames' deviation": float(their_frames.std()),
        "bytes that differ": float((ours - rounded).abs().gt(0.1 / 255).float().mean()),
    }


PEERS = {
    "echomimic": (make_echomimic, animate_echomimic, names_of_echomimic),
    "echomimic-fast": (make_echomimic, animate_echomimic, names_of_echomimic),
    "hallo": (make_hallo, animate_hallo, names_of_hallo),
    "hallo2": (make_hallo, animate_hallo, names_of_hallo),
}
"""Peer -> what is made in its process, what is compared in this one, and the names of its full-size checkpoint."""

if __name__ == "__main__":
    raise SystemExit(main())
