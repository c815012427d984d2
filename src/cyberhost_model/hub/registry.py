"""Published weights that the project can use: where they are, their files and digests, their licence and use.

A sha256 is given where several public sources agree on it. Where it is None the file is checked against the digest
that the Hub itself states, and that is remembered. Sizes are bytes; without a sha256 they may be approximate, and
serve to check the disk and to inform the user.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from cyberhost_model.errors import ModelError


@dataclass(frozen=True)
class WeightFile:
    """One file: its path in the repository, or its name below `Weights.url`."""

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Weights:
    """One published model."""

    name: str
    what: str
    """What it is and what it is used for here, in a line."""
    licence: str
    files: tuple[WeightFile, ...]
    repo: str | None = None
    """Repository on the Hub."""
    revision: str | None = None
    """Commit of `repo`; None: the newest."""
    repo_type: str = "model"
    url: str | None = None
    """An https address the files lie below, for those that are not on the Hub."""
    commercial: bool = True
    """False: the licence forbids commercial use."""
    adapter: str | None = None
    """`weights convert` turns it into a model of ours with this adapter."""

    def __post_init__(self) -> None:
        if (self.repo is None) == (self.url is None):
            raise ValueError(f"{self.name}: either repo or url")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        return self.url or f"{self.repo}@{self.revision[:8] if self.revision else 'main'}"


_SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_SD15_REVISION = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
_OPEN_RAIL = "CreativeML Open RAIL-M (use restrictions in its attachment A)"


def _echomimic(name: str, what: str, licence: str, repo: str, pose_file: str, ending: str = "") -> Weights:
    """List a checkpoint of the EchoMimic family; that of six steps has `ending` in the names of two of its files."""
    files = (
        WeightFile(f"denoising_unet{ending}.pth", 3_400_000_000),
        WeightFile("reference_unet.pth", 3_262_000_000),
        WeightFile(f"motion_module{ending}.pth", 1_818_000_000),
        WeightFile(pose_file, 4_350_000),
    )
    return Weights(name, what, licence, files, repo=repo, adapter=name)


_ALL = (
    Weights(
        "sd15-unet",
        "Stable Diffusion 1.5's U-Net: Reference Net and Denoising U-Net of sd15",
        _OPEN_RAIL,
        (
            WeightFile("unet/config.json", 743),
            WeightFile(
                "unet/diffusion_pytorch_model.safetensors",
                3_438_167_540,
                "19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1",
            ),
        ),
        repo=_SD15,
        revision=_SD15_REVISION,
    ),
    Weights(
        "sd15-vae",
        "Stable Diffusion 1.5's VAE: the codec of sd15",
        _OPEN_RAIL,
        (
            WeightFile("vae/config.json", 547),
            WeightFile(
                "vae/diffusion_pytorch_model.safetensors",
                334_643_276,
                "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c",
            ),
        ),
        repo=_SD15,
        revision=_SD15_REVISION,
    ),
    Weights(
        "sd-vae-ft-mse",
        "the same VAE with a finer decoder: what AnimateAnyone and EchoMimicV2 decode with",
        "MIT",
        (
            WeightFile("config.json", 547, "92d3dfb746fca211a2c9e019e285f8597412211728dce3c5bcf4eda0f2d62e7e"),
            WeightFile(
                "diffusion_pytorch_model.safetensors",
                334_643_276,
                "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
            ),
        ),
        repo="stabilityai/sd-vae-ft-mse",
        revision="31f26fdeee1355a5c34592e401dd41e45d25a493",
    ),
    Weights(
        "animatediff-v2",
        "AnimateDiff's motion adapter v2 (v1-5-2), all 21 motion modules: those of sd15",
        "Apache-2.0 (AnimateDiff's repository)",
        (WeightFile("config.json", 500), WeightFile("diffusion_pytorch_model.safetensors", 1_820_000_000)),
        repo="guoyww/animatediff-motion-adapter-v1-5-2",
    ),
    Weights(
        "animatediff-v3",
        "AnimateDiff's motion adapter v3 (v1-5-3), 20 motion modules: none in the middle block",
        "Apache-2.0 (AnimateDiff's repository)",
        (WeightFile("config.json", 500), WeightFile("diffusion_pytorch_model.safetensors", 1_670_000_000)),
        repo="guoyww/animatediff-motion-adapter-v1-5-3",
    ),
    Weights(
        "wav2vec2",
        "wav2vec2-base-960h: speech encoder of sd15",
        "Apache-2.0",
        (
            WeightFile("config.json", 1_596, "d3ec255c063d9f95057b553b19c20135b259875834a4fe9deb218a6be25b4cf3"),
            WeightFile(
                "model.safetensors", 377_607_901, "8aa76ab2243c81747a1f832954586bc566090c83a0ac167df6f31f0fa917d74a"
            ),
        ),
        repo="facebook/wav2vec2-base-960h",
        revision="22aad52d435eb6dbaf354bdad9b0da84ce7d6156",
    ),
    Weights(
        "dwpose",
        "DWPose: whole-body key points (person detector and pose network)",
        "Apache-2.0",
        (
            WeightFile("yolox_l.onnx", 216_746_733, "7860ae79de6c89a3c1eb72ae9a2756c0ccfbe04b7791bb5880afabd97855a411"),
            WeightFile(
                "dw-ll_ucoco_384.onnx",
                134_399_116,
                "724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843",
            ),
        ),
        repo="yzd-v/DWPose",
        revision="1a7144101628d69ee7a3768d1ee3a094070dc388",
    ),
    Weights(
        "arcface",
        "insightface buffalo_l: face detector and ArcFace (CSIM of eval; face descriptor of sd15)",
        "non-commercial research only (insightface model zoo)",
        (
            WeightFile(
                "models/buffalo_l/det_10g.onnx",
                16_923_827,
                "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
            ),
            WeightFile(
                "models/buffalo_l/w600k_r50.onnx",
                174_383_860,
                "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
            ),
        ),
        # The bytes of insightface's own release v0.7 (buffalo_l.zip), file by file.
        repo="public-data/insightface",
        revision="33c1063c49c785b7652d3fd529f86fa4f149392b",
        commercial=False,
    ),
    Weights(
        "antelope",
        "insightface antelopev2: face detector and ArcFace (face descriptor of hallo and hallo2)",
        "non-commercial research only (insightface model zoo)",
        (
            WeightFile("face_analysis/models/scrfd_10g_bnkps.onnx", 16_923_827),
            WeightFile("face_analysis/models/glintr100.onnx", 260_700_000),
        ),
        repo="fudan-generative-ai/hallo2",
        commercial=False,
    ),
    Weights(
        "inception",
        "Inception of 2015-12-05 with FID's weights: FID of eval",
        "Apache-2.0",
        (
            WeightFile(
                "pt_inception-2015-12-05-6726825d.pth",
                95_628_359,
                "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            ),
        ),
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights",
    ),
    Weights(
        "i3d",
        "I3D of Kinetics-400, 400 logits: FVD of eval",
        "Apache-2.0 (kinetics-i3d, converted)",
        (WeightFile("opensora/eval/fvd/videogpt/i3d_pretrained_400.pt", 50_000_000),),
        repo="LanguageBind/Open-Sora-Plan-v1.0.0",
        revision="810fa8c4bdb3a4c8eec9bd57375c29bde6fb46de",
        repo_type="space",
    ),
    Weights(
        "syncnet",
        "SyncNet v2 and its face detector S3FD: SyncC and SyncD of eval",
        "MIT (syncnet_python)",
        (
            WeightFile(
                "syncnet_v2.model", 54_573_114, "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442"
            ),
            WeightFile("sfd_face.pth", 89_844_381, "d54a87c2b7543b64729c9a25eafd188da15fd3f6e02f0ecec76ae1b30d86c491"),
        ),
        url="https://www.robots.ox.ac.uk/~vgg/software/lipsync/data",
    ),
    Weights(
        "alexnet",
        "AlexNet of ImageNet: LPIPS of eval, with lpips",
        "BSD-3-Clause (torchvision)",
        (
            WeightFile(
                "alexnet-owt-7be5be79.pth",
                244_408_911,
                "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            ),
        ),
        url="https://download.pytorch.org/models",
    ),
    Weights(
        "lpips",
        "LPIPS v0.1, its heads on AlexNet: LPIPS of eval, with alexnet",
        "BSD-2-Clause (PerceptualSimilarity)",
        (WeightFile("alex.pth", 6_009, "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),),
        url="https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1",
    ),
    Weights(
        "animate-anyone",
        "AnimateAnyone, an independent training: pose-driven video of a person",
        "Apache-2.0",
        (
            WeightFile("denoising_unet.pth", 3_440_000_000),
            WeightFile("reference_unet.pth", 3_440_000_000),
            WeightFile("motion_module.pth", 1_820_000_000),
            WeightFile("pose_guider.pth", 4_350_000),
        ),
        repo="patrolli/AnimateAnyone",
        adapter="animate-anyone",
    ),
    Weights(
        "clip-image",
        "CLIP's image encoder of SD image variations: what AnimateAnyone sees the reference with",
        "CreativeML Open RAIL-M",
        (
            WeightFile("image_encoder/config.json", 703),
            WeightFile(
                "image_encoder/pytorch_model.bin",
                1_215_993_967,
                "89d2aa29b5fdf64f3ad4f45fb4227ea98bc45156bbae673b85be1af7783dbabb",
            ),
        ),
        repo="lambdalabs/sd-image-variations-diffusers",
    ),
    _echomimic(
        "echomimic-v2",
        "EchoMimicV2: half-body video from speech and hand poses",
        "Apache-2.0 (EchoMimicV2's repository)",
        "BadToBest/EchoMimicV2",
        "pose_encoder.pth",
    ),
    _echomimic(
        "echomimic-v2-fast",
        "EchoMimicV2 in six steps: half-body video from speech and hand poses",
        "Apache-2.0 (EchoMimicV2's repository)",
        "BadToBest/EchoMimicV2",
        "pose_encoder.pth",
        ending="_acc",
    ),
    Weights(
        "whisper-tiny",
        "Whisper's smallest encoder: what EchoMimicV2 hears with",
        "Apache-2.0",
        (
            WeightFile("config.json", 1_983, "ffdccec4f3211f4c63310f2b7098f309fe70f3952cedc5e4d11e43f5b2379b98"),
            WeightFile(
                "model.safetensors", 151_061_672, "7ebd0e69e78190ffe1438491fa05cc1f5c1aa3a4c4db3bc1723adbb551ea2395"
            ),
        ),
        repo="openai/whisper-tiny",
        revision="169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
    ),
    _echomimic(
        "echomimic",
        "EchoMimic: a head that speaks, from one picture and speech",
        "Apache-2.0 (EchoMimic's repository)",
        "BadToBest/EchoMimic",
        "face_locator.pth",
    ),
    _echomimic(
        "echomimic-fast",
        "EchoMimic in six steps: a head that speaks, from one picture and speech",
        "Apache-2.0 (EchoMimic's repository)",
        "BadToBest/EchoMimic",
        "face_locator.pth",
        ending="_acc",
    ),
    Weights(
        "hallo",
        "Hallo: a head that speaks, from one picture and speech",
        "MIT",
        (WeightFile("hallo/net.pth", 4_850_000_000),),
        repo="fudan-generative-ai/hallo",
        adapter="hallo",
    ),
    Weights(
        "hallo2",
        "Hallo2: a head that speaks, for long videos",
        "MIT",
        (WeightFile("hallo2/net.pth", 4_850_000_000),),
        repo="fudan-generative-ai/hallo2",
        adapter="hallo2",
    ),
)

REGISTRY: dict[str, Weights] = {weights.name: weights for weights in _ALL}

GROUPS: dict[str, tuple[str, ...]] = {
    "sd15": ("sd15-unet", "sd15-vae", "animatediff-v2", "wav2vec2", "dwpose", "arcface"),
    "eval": ("inception", "i3d", "syncnet", "arcface", "dwpose"),
}
"""Names for several models at once."""


def find(name: str) -> tuple[Weights, WeightFile | None]:
    """Look up a model by its name, or by the name of one of its files that no other has.

    Raises ModelError for an unknown name.
    """
    if name in REGISTRY:
        return REGISTRY[name], None
    found = [(w, f) for w in _ALL for f in w.files if name in (f.path, f.path.rsplit("/", 1)[-1])]
    if len(found) != 1:
        raise ModelError(f"there are no weights {name!r}; `cyberhost weights list` names those that there are")
    return found[0]


ADAPTERS: dict[str, str] = {
    "sd15": "cyberhost_model.porting.sd15",
    "animate-anyone": "cyberhost_model.porting.animate_anyone",
    "echomimic-v2": "cyberhost_model.porting.echomimic_v2",
    "echomimic-v2-fast": "cyberhost_model.porting.echomimic_v2:FAST_ADAPTER",
    "hallo": "cyberhost_model.porting.hallo",
    "hallo2": "cyberhost_model.porting.hallo:HALLO2_ADAPTER",
    "echomimic": "cyberhost_model.porting.echomimic",
    "echomimic-fast": "cyberhost_model.porting.echomimic:FAST_ADAPTER",
}
"""Published model -> the module whose ADAPTER (`porting.convert.Adapter`) makes a model folder of it.

"module:NAME" for a second one of a module. A new family is a line here and a file there; the module is imported when
its model is used.
"""


def register_adapter(name: str, module: str) -> None:
    """Register the published model `name`: `module`, imported when it is used, holds its ADAPTER."""
    ADAPTERS[name] = module


def load_adapter(name: str) -> Any:
    """Load the `porting.convert.Adapter` of a published model. Raises ModelError for a name that is not in ADAPTERS."""
    if name not in ADAPTERS:
        raise ModelError(f"there is no adapter {name!r}; choose one of {', '.join(ADAPTERS)}")
    module, _, attribute = ADAPTERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute or "ADAPTER")
