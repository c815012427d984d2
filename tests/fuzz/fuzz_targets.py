"""The readers that are fuzzed: a valid file of each, how it is damaged, how it is read, and which codes may end it."""

from __future__ import annotations

import csv
import functools
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzz_mutations as damage
import numpy as np
from fuzz_mutations import BYTES, Mutation

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "driving")]
EXAMPLES = HERE.parents[1] / "examples"
TABLE: tuple[Mutation, ...] = (damage.change_text,) * 6
TEXT: tuple[Mutation, ...] = (damage.change_json,) * 6
ARRAYS: tuple[Mutation, ...] = (damage.change_arrays,) * 5
HEADER: tuple[Mutation, ...] = (damage.change_header,) * 5


@dataclass(frozen=True)
class Target:
    """One reader."""

    name: str
    make: Callable[[Path], Path]
    """Makes what is read in an empty folder; returns the path that is given to `read`."""
    read: Callable[[Path], Any]
    codes: tuple[int, ...]
    """Exit codes of the errors that it may raise."""
    mutations: tuple[Mutation, ...] = ()
    """Beside those of bytes, kinds of files and names."""
    damaged: tuple[str, ...] = ("",)
    """Files that are damaged, relative to what `make` returns; "" is that itself."""
    rename: bool = True
    """Whether the path itself may be renamed."""


LIBRARIES = (
    "lab.training.recipe",
    "lab.training.checkpoint",
    "lab.training.clips",
    "lab.filmed.inspection",
    "lab.synthetic.stills",
    "lab.synthetic.performance",
    "lab.evaluation.report.compare_output",
    "runtime.publish",
    "codecs.reference",
    "media.video_reader",
)
"""Modules that the readers import, so that a case does not wait for them."""
LEFT_OUT_OF_CI: tuple[str, ...] = ()


@functools.cache
def sample(kind: str) -> bytes:
    """Make the valid file of a kind once."""
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        return SAMPLES[kind](Path(place)).read_bytes()


def _of_sample(kind: str, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(sample(kind))
        return folder / name

    return make


def _key_points(suffix: str) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        from figures import Person, perform

        return perform(Person(), 3).save(place / f"pose{suffix}")

    return make


def _labels(place: Path) -> Path:
    from cyberhost_model.lab.filmed.labels import SHAPES, write_labels

    rng = np.random.default_rng(0)
    arrays = {name: rng.uniform(0, 1, (3, *shape)).astype(np.float32) for name, shape in SHAPES.items()}
    write_labels(place / "0.npz", {**arrays, "identity": np.array("a")})
    return place / "0.npz"


def _manifest(place: Path) -> Path:
    from cyberhost_model.lab.filmed.manifest import Row, write_manifest

    rows = [
        Row(
            f"c{i}",
            "accepted",
            "/x/v.mp4",
            start=float(i),
            end=i + 1.0,
            frames=25,
            width=64,
            height=64,
            box=[0, 0, 9, 9],
            descriptor=[0.1] * 63,
            identity="a",
            split="train",
            video=f"{i}.mp4",
            labels=f"{i}.npz",
            movement=0.1,
        )
        for i in range(3)
    ]
    return write_manifest(place, [*rows, Row("r", "rejected", "/x/v.mp4", "too_short", "0.1 s")])


def _gestures(place: Path) -> Path:
    np.savez_compressed(place / "g.npz", body=np.random.default_rng(0).uniform(0, 1, (40, 18, 2)).astype(np.float32))
    return place / "g.npz"


def _clip(place: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    from cyberhost_model.lab.training.coded import OLD_TENSORS, POINTS

    tensors = {name: torch.zeros(4, 3, 2, 2) for name in (*OLD_TENSORS, *(f"frame.{name}" for name in POINTS))}
    own = {"z": torch.zeros(40, 39, 4, 4), "audio": torch.zeros(40, 6, 5, 128), "clarity": torch.zeros(40)}
    save_file({**tensors, **own}, place / "c.safetensors")
    return place / "c.safetensors"


def _shard(place: Path) -> Path:
    import torch

    from cyberhost_model.lab.training.coded import POINTS, TENSORS, write_shard

    tensors = {name: torch.zeros(4, 3, 2, 2) for name in (*TENSORS, *(f"frame.{name}" for name in POINTS))}
    own = {"z": torch.zeros(40, 39, 4, 4), "features": torch.zeros(90, 5, 128), "clarity": torch.zeros(40)}
    return write_shard(place, {"a": {**tensors, **own}, "b": {**tensors, **own}})


def _video(place: Path) -> Path:
    from cyberhost_model.media.video_writer import write_video

    frames = (np.full((64, 64, 3), 20 * i, np.uint8) for i in range(6))
    write_video(frames, place / "v.mp4", 25.0)
    return place / "v.mp4"


def _picture(format: str) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        from PIL import Image

        with Image.open(EXAMPLES / "astronaut.jpg") as image:
            image.resize((96, 96)).save(place / "p", format)
        return place / "p"

    return make


def _sound(place: Path) -> Path:
    import soundfile

    samples = 0.3 * np.sin(np.arange(4000) * 0.1)
    soundfile.write(place / "s.wav", samples, 16_000)
    return place / "s.wav"


def _checkpoint(place: Path) -> Path:
    import torch

    torch.save({"a.weight": torch.zeros(8, 4), "b": torch.ones(3, dtype=torch.float16)}, place / "c.pth")
    return place / "c.pth"


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "keypoints.npz": _key_points(".npz"),
    "keypoints.json": _key_points(".json"),
    "labels": _labels,
    "manifest": _manifest,
    "gestures": _gestures,
    "clip": _clip,
    "pth": _checkpoint,
    "video": _video,
    "sound": _sound,
    "png": _picture("PNG"),
    "jpeg": _picture("JPEG"),
    "webp": _picture("WEBP"),
}


def _any_picture(folder: Path) -> Path:
    """A picture of one of the formats; which one follows from the folder's name."""
    return _of_sample(("png", "jpeg", "webp")[sum(map(ord, folder.name)) % 3], "p.png")(folder)


def _poses(folder: Path) -> Path:
    (folder / "poses").mkdir()
    for i in range(2):
        values = {
            "bodies": {"candidate": np.full((18, 2), 0.4), "score": np.ones((1, 18))},
            "hands": np.full((2, 21, 2), 0.5),
            "hands_score": np.ones((2, 21)),
            "faces": np.full((1, 68, 2), 0.5),
            "faces_score": np.ones((1, 68)),
            "draw_pose_params": [768, 768, 0, 768, 0, 768],
        }
        np.save(folder / "poses" / f"{i}.npy", values, allow_pickle=True)  # type: ignore[arg-type]
    return folder / "poses"


def _stills(folder: Path) -> Path:
    def ring(n: int, cy: float, r: float) -> list[list[float]]:
        angles = np.arange(n) * (2 * np.pi / n)
        return np.stack([0.45 + r * np.cos(angles), cy + r * np.sin(angles)], 1).round(3).tolist()

    label = {"face": ring(478, 0.3, 0.1), "pose33": ring(33, 0.6, 0.2), "left_hand21": None, "right_hand21": None}
    (folder / "one.png").write_bytes(sample("png"))
    (folder / "keypoints.json").write_text(json.dumps({"one.png": label}))
    return folder


def _eval_json(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(b"video")
    rows = [{"generated": "a.mp4", "name": "a", "identity": "p"}, {"generated": "a.mp4", "name": "b"}]
    (folder / "m.json").write_text(json.dumps(rows))
    return folder / "m.json"


def _eval_csv(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(b"video")
    (folder / "m.csv").write_text("name,generated,identity\na,a.mp4,p\nb,a.mp4,q\n")
    return folder / "m.csv"


def _results(folder: Path) -> Path:
    measure = {
        "status": "ok",
        "value": 0.5,
        "ci95": [0.4, 0.6],
        "n": 2,
        "coverage": 1.0,
        "direction": "up",
        "unit": "dB",
    }
    measure |= {"decimals": 2, "protocol": "p1", "weights": {"a": "b"}, "licence": "", "reason": "", "extras": {}}
    provenance = {
        "created": "2026",
        "command": "c",
        "device": "cpu",
        "seed": 0,
        "videos": 2,
        "frames": 9,
        "seconds": 1.5,
    }
    provenance |= {"versions": {"torch": "2"}, "inputs": {"a": "b"}, "settings": {"clips": 4}}
    summary = {"version": 1, "name": "run", "metrics": {"PSNR": measure}, "mismatches": [], "provenance": provenance}
    (folder / "summary.json").write_text(json.dumps(summary))
    with open(folder / "per_video.csv", "w", newline="") as file:
        rows = csv.writer(file)
        names = ["video", "identity", "generated", "reference", "frames", "fps", "width", "height"]
        rows.writerow([*names, "PSNR", "PSNR.coverage", "PSNR.reason"])
        for name in "ab":
            rows.writerow([name, name, f"{name}.mp4", "", 5, 25.0, 64, 64, 0.5, 1.0, ""])
    return folder


def _compare(folder: Path) -> Any:
    from cyberhost_model.lab.evaluation.report.compare import compare_reports
    from cyberhost_model.lab.evaluation.report.compare_output import comparison_text, comparison_values

    found = compare_reports([folder, folder], 0)
    return comparison_text(found), comparison_values(found)


def _recipe(folder: Path) -> Path:
    from cyberhost_model.lab.training import recipe

    shutil.copyfile(Path(recipe.__file__).with_name("tiny.toml"), folder / "r.toml")
    return folder / "r.toml"


def _read_recipe(path: Path) -> Any:
    from cyberhost_model.config import preset
    from cyberhost_model.lab.training.recipe import read_clips, read_recipe, read_sampling, stage_settings

    for stage in ("codec", "2", "detector"):
        loop, settings = read_recipe(path, stage)
        stage_settings(stage, settings)
        loop.check()
    read_sampling(path, preset("tiny").sampling)
    return read_clips(path)


def _run(folder: Path) -> Path:
    (folder / "last").mkdir()
    state = {"stage": "2", "step": 5, "items": 40, "extra": {"trained": ["a", "b"]}}
    (folder / "last" / "state.json").write_text(json.dumps(state))
    (folder / "config.json").write_text(json.dumps({"stage": "2", "seed": 0}))
    return folder


def _read_run(run: Path) -> Any:
    import torch

    from cyberhost_model.lab.training.checkpoint import Checkpoints, check_same_run
    from cyberhost_model.lab.training.process import Process
    from cyberhost_model.lab.training.settings import LoopConfig

    saved = Checkpoints(run, "2", 2, Process(torch.device("cpu"))).read()
    if saved is not None:
        check_same_run(
            run, torch.nn.ParameterDict({"a": torch.zeros(1), "b": torch.zeros(1)}), LoopConfig(9), saved.extra
        )
    return saved


@functools.cache
def _small_model() -> Path:
    """A model of the embedded one's layout with a small network, made once a process."""
    import atexit
    import tempfile

    from cyberhost_model.config import EMBEDDED
    from cyberhost_model.model.checkpoint import save_network
    from model_helpers import make_network

    place = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    save_network(make_network(), place)
    for part in ("codec", "speech", "detector"):
        shutil.copytree(EMBEDDED / "tiny" / part, Path(place) / part)
    return Path(place)


def _model(part: str) -> Callable[[Path], Path]:
    """Copy one part of a model; weights that are not damaged are links."""

    def make(folder: Path) -> Path:
        target = folder / "model"
        target.mkdir()
        for file in (_small_model() / part).iterdir():
            if file.is_file():
                shutil.copyfile(file, target / file.name)
        return target

    return make


def _read_network(folder: Path) -> Any:
    from cyberhost_model.hub.capabilities import capabilities_of
    from cyberhost_model.model.checkpoint import check_network, load_network, load_preset, read_untrained

    capabilities_of(load_preset(folder), read_untrained(folder))
    check_network(folder)
    return load_network(folder)


def _read_codec(folder: Path) -> Any:
    from cyberhost_model.codecs.base import load_codec

    return load_codec("reference", folder)


def _read_speech(folder: Path) -> Any:
    from cyberhost_model.speech.registry import load_speech

    return load_speech(folder)


def _read_detector(folder: Path) -> Any:
    from cyberhost_model.perception.registry import load_detector

    return load_detector(folder, download=False)


def _read_manifest(path: Path) -> Any:
    from cyberhost_model.lab.filmed.inspection import summarise, summary_text
    from cyberhost_model.lab.filmed.manifest import read_manifest

    return summary_text(summarise(read_manifest(path.parent)))


def _read_sound(path: Path) -> Any:
    from cyberhost_model.media.audio import load_audio

    sound = load_audio(path)
    return sound, sum(len(block) for block in sound.blocks())


def _read_live_sound(path: Path) -> Any:
    """As `cyberhost live` reads standard input."""
    import io

    from cyberhost_model.media.pcm import read_wav_header

    stream = io.BufferedReader(io.BytesIO(path.read_bytes() if path.is_file() else b""))  # type: ignore[arg-type]
    return sum(len(block) for block in read_wav_header(stream).blocks(stream))


def _read_video(path: Path) -> Any:
    from cyberhost_model.media.video_reader import probe_video, read_frames

    return sum(1 for _ in read_frames(probe_video(path)))


def _late(module: str, name: str, *more: Any) -> Callable[[Path], Any]:
    """A function of the package, imported when it is called."""

    def read(path: Path) -> Any:
        import importlib

        return getattr(importlib.import_module(f"cyberhost_model.{module}"), name)(path, *more)

    return read


def _phonemes(folder: Path) -> Path:
    spans = [[0.0, 0.1, "p"], [0.1, 0.3, "a"], [0.3, 0.4, ""]]
    (folder / "p.json").write_text(json.dumps({"seconds": 0.5, "phonemes": spans}))
    return folder / "p.json"


def _subtitles(folder: Path) -> Path:
    path = folder / "talk.srt"
    path.write_text("1\n00:00:00,100 --> 00:00:01,200\nHello\n\n2\n00:00:02,000 --> 00:00:03,000\nthere\n")
    return path


def _sources(folder: Path) -> Path:
    (folder / "sources.json").write_text(json.dumps([{"part": "a", "from": "x/y", "revision": None, "licence": "mit"}]))
    return folder


def _read_gestures(path: Path) -> Any:
    from cyberhost_model.lab.synthetic.performance import load_gestures

    return load_gestures(path.parent)


def _read_clip(path: Path) -> Any:
    from cyberhost_model.config import preset
    from cyberhost_model.lab.training.coded import CodedClip

    clip = CodedClip("b", path, 1 if path.name.startswith("shard-") else 0).open()
    clip.check_fits(preset("tiny"), 12)
    return clip.latents(0, 0, 16)


CONFIG, WEIGHTS = ("config.json",), ("model.safetensors",)
STILLS = ("keypoints.json", "keypoints.json", "keypoints.json", "one.png")
_archive = _of_sample("keypoints.npz", "k.npz")
_read_key_points = _late("driving.sequence", "read_sequence")
_read_pairs = _late("lab.evaluation.pairing", "pair_videos")
TARGETS = {
    target.name: target
    for target in (
        Target(
            "key points .npz",
            _archive,
            _read_key_points,
            (3,),
            ARRAYS,
        ),
        Target(
            "key points .json",
            _of_sample("keypoints.json", "k.json"),
            _read_key_points,
            (3,),
            TEXT,
        ),
        Target("template", _archive, _late("driving.template", "load_template"), (3,), ARRAYS),
        Target("pose folder", _poses, _late("driving.pose_folder", "read_pose_folder"), (3,), (), ("0.npy", "1.npy")),
        Target("labels", _of_sample("labels", "0.npz"), _late("lab.filmed.labels", "read_labels"), (3,), ARRAYS),
        Target("manifest", _of_sample("manifest", "manifest.parquet"), _read_manifest, (3,), rename=False),
        Target(
            "stills",
            _stills,
            _late("lab.synthetic.stills", "load_stills"),
            (3,),
            TEXT,
            STILLS,
        ),
        Target("gestures", _of_sample("gestures", "g.npz"), _read_gestures, (3,), ARRAYS, rename=False),
        Target("phonemes", _phonemes, _late("speech.phonemes", "read_phonemes"), (9,), TEXT),
        Target("evaluation manifest .json", _eval_json, _read_pairs, (3,), TEXT),
        Target(
            "evaluation manifest .csv",
            _eval_csv,
            _read_pairs,
            (3,),
            TABLE,
        ),
        Target("results summary.json", _results, _compare, (3,), TEXT, ("summary.json",)),
        Target("results per_video.csv", _results, _compare, (3,), TABLE, ("per_video.csv",)),
        Target("recipe", _recipe, _read_recipe, (3, 9, 6), TABLE),
        Target("run state", _run, _read_run, (9,), TEXT, ("last/state.json", "config.json")),
        Target("coded clip", _of_sample("clip", "c.safetensors"), _read_clip, (9,), HEADER),
        Target("coded clips", _shard, _read_clip, (9,), HEADER),
        Target("model config", _model("."), _read_network, (6,), TEXT, CONFIG),
        Target("model weights", _model("."), _read_network, (6,), HEADER, ("network.safetensors",)),
        Target("codec", _model("codec"), _read_codec, (6,), (*TEXT, *HEADER), (*CONFIG, *WEIGHTS)),
        Target("speech encoder", _model("speech"), _read_speech, (6,), (*TEXT, *HEADER), (*CONFIG, *CONFIG, *WEIGHTS)),
        Target("detector", _model("detector"), _read_detector, (6,), (*TEXT, *HEADER), (*CONFIG, *WEIGHTS)),
        Target("checkpoint .pth", _of_sample("pth", "c.pth"), _late("hub.tensors", "read_tensors"), (6,)),
        Target("sources of a model", _sources, _late("runtime.publish", "read_sources"), (6,), TEXT, ("sources.json",)),
        Target("picture", _any_picture, _late("media.image", "load_picture"), (3,)),
        Target("sound", _of_sample("sound", "s.wav"), _read_sound, (3,)),
        Target("live sound", _of_sample("sound", "s.wav"), _read_live_sound, (3,), rename=False),
        Target("video", _of_sample("video", "v.mp4"), _read_video, (3,)),
        Target("subtitles", _subtitles, _late("media.subtitles", "load_subtitles"), (3,), TABLE),
    )
}


def run_case(name: str, number: int, seed: int, folder: Path) -> str | None:
    """Make, damage and read one case in an empty folder; return what went wrong, None where nothing did."""
    from cyberhost_model.errors import CyberHostError

    target, rng = TARGETS[name], random.Random(f"{seed} {name} {number}")
    path = target.make(folder)
    place = path / rng.choice(target.damaged) if target.damaged != ("",) else path
    choices = (*BYTES, *target.mutations)
    for _ in range(rng.choice((1, 1, 1, 2))):
        what = rng.random()
        if what < 0.04:
            damage.other_kind(place, rng)
            break
        if what < 0.08 and target.rename:
            path = damage.other_name(path, rng)
            break
        mutation = rng.choice(choices)
        if mutation in (damage.change_json,) and place.suffix != ".json":
            mutation = rng.choice(BYTES)
        if mutation is damage.change_header and place.suffix != ".safetensors":
            mutation = damage.change_json if place.suffix == ".json" else rng.choice(BYTES)
        try:
            mutation(place, rng)
        except (TypeError, ValueError, LookupError, OverflowError, RecursionError):
            continue  # numpy does not turn every kind into every other, and what is nested deep is not nested again
    before = _listing(folder)
    try:
        target.read(path)
    except CyberHostError as error:
        text = str(error)
        if error.exit_code not in target.codes:
            return f"ends with {error.exit_code}: {text[:300]}"
        if not text.strip() or any(ord(letter) < 32 and letter not in "\n\t\r" for letter in text) or len(text) > 2000:
            return f"no clean line: {text[:300]!r}"
    except Exception as error:
        return f"unexpected {type(error).__name__}: {str(error)[:300]}"
    if _listing(folder) != before:
        return "leaves a file"
    return None


def _listing(folder: Path) -> list[str]:
    return sorted(os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
