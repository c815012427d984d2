"""Text and model files that lie, are damaged or wander off: the documented exit code and one clean line."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import load_file, save_file

from cyberhost_cli import main as cli
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model.config import EMBEDDED, preset
from cyberhost_model.errors import InputError, ModelError, TrainingError
from cyberhost_model.reading import Unreadable, exists, is_file, read_arrays, read_json

pytestmark = pytest.mark.skipif(os.name == "nt", reason="names and pipes of POSIX")


def ends(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run a command; its exit code, and the one line on stderr."""
    code = cli.main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1, shown.err
    assert all(letter == "\n" or letter.isprintable() for letter in shown.err), ascii(shown.err)
    return code, shown.err


def damage_stream(path: Path) -> None:
    """Damage the compressed bytes of an archive's first entry; its directory stays whole."""
    data = bytearray(path.read_bytes())
    start = 30 + struct.unpack("<H", data[26:28])[0] + struct.unpack("<H", data[28:30])[0]
    data[start : start + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(zlib.error), np.load(path_with(path, data)) as file:
        file[file.files[0]]


def path_with(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_damaged_stream_in_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cyberhost_model.lab.filmed.labels import read_labels

    path = tmp_path / "points.npz"
    np.savez_compressed(path, fps=np.arange(1000.0))
    damage_stream(path)
    code, line = ends(capsys, "template", "show", path, "-o", tmp_path / "o.mp4")
    assert code == ExitStatus.INPUT and str(path) in line and not (tmp_path / "o.mp4").exists()
    with pytest.raises(InputError, match="no labels that can be read"):
        read_labels(path)


def test_an_array_whose_header_lies(tmp_path: Path) -> None:
    """It says 8 TB, and holds 8 bytes; nothing is allocated."""
    import zipfile

    header = str({"descr": "<f8", "fortran_order": False, "shape": (10**12,)}).ljust(117) + "\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"\0" * 8
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", data)
    with pytest.raises(Unreadable, match="has not the .* numbers that it says"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["x" * 300 + ".npz", "a\x1b[31m\x07.npz", "b\udcff.npz", "c\u202egnp.npz"])
def test_names_that_no_terminal_should_obey(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not exists(tmp_path / name) and not is_file(name)
    assert ends(capsys, "template", "show", tmp_path / name, "-o", tmp_path / "o.mp4")[0] == ExitStatus.INPUT
    assert ends(capsys, "animate", tmp_path / name, "b.wav", "-o", tmp_path / "o.mp4")[0] == ExitStatus.INPUT
    assert ends(capsys, "eval", tmp_path / name)[0] == ExitStatus.INPUT
    assert ends(capsys, "data", "inspect", tmp_path / name)[0] == ExitStatus.INPUT
    assert ends(capsys, "doctor", "--model", tmp_path / name, "--precision", name)[0] == ExitStatus.USAGE
    output = tmp_path / f"{name}.mp4"
    assert ends(capsys, "template", "show", "wave", "-o", output / "no" / "o.mp4")[0] == ExitStatus.OUTPUT


def test_a_name_with_an_escape_in_a_warning_and_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cyberhost_cli.console import Console

    name = "a\x1b[31m\udcff\x9b"
    Console().warn(f"{name}: odd")
    Console().text([name])
    Console(as_json=True).data({"name": name})
    shown = capsys.readouterr()
    assert shown.err == "cyberhost: warning: a\\x1b[31m\\xff\\x9b: odd\n"
    text, data = shown.out.splitlines()
    assert text == "a\\x1b[31m\\xff\\x9b" and json.loads(data) == {"name": name} and data.isprintable()


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "p.json")
    os.mkfifo(tmp_path / "p.npz")
    for name in ("p.json", "p.npz"):
        assert ends(capsys, "template", "show", tmp_path / name, "-o", tmp_path / "o.mp4")[0] == ExitStatus.INPUT
    for path in (tmp_path / "p.json", Path("/dev/zero"), tmp_path):
        with pytest.raises(Unreadable):
            read_json(path)


@pytest.mark.parametrize("text", ["0", '"a"', "[1]", "[[]]", '[{"generated": [1]}]', "[" * 100_000])
def test_an_evaluation_manifest_of_other_types(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.json").write_text(text)
    code, line = ends(capsys, "eval", tmp_path / "m.json")
    assert code == ExitStatus.INPUT and "m.json" in line


def test_a_recipe_that_is_nested_too_deeply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "deep.toml"
    for text in (
        "a=" + "[" * 5000,
        "[codec]\nsteps = nan",
        "[codec]\nsteps = 3\nlr = inf",
        "a = = 3",
        "[codec]\nsteps={}",
    ):
        recipe.write_text(text)
        code, line = ends(capsys, "train", "--stage", "codec", "--config", recipe, "-o", tmp_path / "run")
        assert code == ExitStatus.TRAINING and "deep.toml" in line and not (tmp_path / "run").exists()


def test_a_table_of_a_dataset_with_a_broken_column_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    from cyberhost_model.lab.filmed.manifest import Row, write_manifest

    path = write_manifest(tmp_path, [Row("a", "rejected", "/v.mp4", "too_short")])
    whole = path.read_bytes()
    assert whole.count(b"detector") > 0
    path.write_bytes(whole.replace(b"detector", b"det\xff\xfe\xfdor"))
    assert ends(capsys, "data", "inspect", tmp_path)[0] == ExitStatus.INPUT
    write_manifest(tmp_path, [Row("a", "maybe", "/v.mp4")])
    code, line = ends(capsys, "data", "inspect", tmp_path)
    assert code == ExitStatus.INPUT and "neither accepted nor rejected" in line


def config_with(**changes: Any) -> dict[str, Any]:
    """The configuration of the embedded model; a name with dots leads into its tables."""
    config = json.loads((EMBEDDED / "tiny" / "config.json").read_text())
    for name, value in changes.items():
        *tables, last = name.split("__")
        inner = config["preset"]
        for table in tables:
            inner = inner[table]
        inner[last] = value
    return config


@pytest.mark.parametrize(
    "changes",
    [
        {"unet__layers_per_block": 10**9},
        {"unet__motion_heads": [1000000000, 2, 5]},
        {"unet__block_out_channels": [65536, 65536, 65536]},
        {"unet__block_out_channels": [64] * 100_000},
        {"unet__heads": [0, 2, 5]},
        {"region__identity_dim": [None]},
        {"region__stages": ["elsewhere"]},
        {"ablations__face_codebook": "9" * 5000},
        {"audio__dim": 10**30},
        {"size": [-1, 0]},
        {"frames": 0},
        {"sampling__steps": "5"},
        {"sampling__flow_shift": float("nan")},
        {"codec": ["reference"]},
        {"codec": "\x1b[31m"},
    ],
)
def test_a_model_that_asks_for_what_it_does_not_hold(
    changes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is built or allocated: 65,536 channels would take terabytes."""
    from cyberhost_model.model.checkpoint import load_network

    (tmp_path / "network.safetensors").symlink_to(EMBEDDED / "tiny" / "network.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config_with(**changes)))
    with pytest.raises(ModelError) as caught:
        load_network(tmp_path)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()


def test_a_model_s_code_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = Path(__file__).parents[1] / "examples"
    inputs = (examples / "astronaut.jpg", examples / "speech.wav")
    (tmp_path / "config.json").write_text(json.dumps(config_with(unet__layers_per_block=10**9)))
    code, line = ends(capsys, "animate", *inputs, "--model", tmp_path, "-o", tmp_path / "o.mp4")
    assert code == ExitStatus.MODEL and "layers_per_block" in line and not (tmp_path / "o.mp4").exists()
    assert ends(capsys, "animate", *inputs, "--model", "~nobody/x/y", "-o", tmp_path / "o.mp4")[0] == ExitStatus.MODEL


@pytest.mark.parametrize("part", ["codec", "speech", "detector"])
def test_parts_of_a_model_that_do_not_fit(part: str, tmp_path: Path) -> None:
    from cyberhost_model.codecs.base import load_codec
    from cyberhost_model.perception.registry import load_detector
    from cyberhost_model.speech.registry import load_speech

    load: dict[str, Any] = {
        "codec": lambda: load_codec("reference", folder),
        "speech": lambda: load_speech(folder),
        "detector": lambda: load_detector(folder, download=False),
    }
    folder = tmp_path / part
    shutil.copytree(EMBEDDED / "tiny" / part, folder)
    file, config = folder / "model.safetensors", folder / "config.json"
    whole, text, tensors = file.read_bytes(), config.read_text(), load_file(file)
    first = sorted(tensors)[0]
    for wrong in (
        {**tensors, first: tensors[first].to(torch.int32)},
        {**tensors, first: tensors[first][None]},
        {name: value for name, value in tensors.items() if name != first},
    ):
        save_file(wrong, file)
        with pytest.raises(ModelError):
            load[part]()
    file.write_bytes(struct.pack("<Q", 2**62) + whole[8:])
    with pytest.raises(ModelError):
        load[part]()
    file.write_bytes(whole)
    for other in ("[]", "null", '{"kind": [1], "class": {}}', "[" * 100_000, "\x1b[31m", ""):
        config.write_text(other)
        with pytest.raises(ModelError) as caught:
            load[part]()
        assert str(caught.value).isprintable()
    config.write_text(text)
    assert load[part]() is not None
    if part == "speech":
        data = json.loads(text)
        data["wav2vec2"]["num_hidden_layers"] = 10**9
        config.write_text(json.dumps(data))
        with pytest.raises(ModelError, match="num_hidden_layers is too large"):
            load[part]()


@pytest.mark.parametrize(
    "state",
    [
        {"stage": "2", "step": 5, "items": {"a": 1}},
        {"stage": "2", "step": "5"},
        {"stage": ["2"], "step": 5},
        {"stage": "2", "step": -5},
        {"stage": "2", "step": 10**40},
        {"stage": "2", "step": 5, "extra": {"trained": 3}},
        {"stage": "2", "step": 5, "extra": []},
        [],
        0,
    ],
)
def test_a_run_whose_state_is_of_other_types(state: Any, tmp_path: Path) -> None:
    from cyberhost_model.lab.training.checkpoint import Checkpoints
    from cyberhost_model.lab.training.process import Process

    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "state.json").write_text(json.dumps(state))
    with pytest.raises(TrainingError, match=r"state.json: damaged"):
        Checkpoints(tmp_path, "2", 2, Process(torch.device("cpu"))).read()


def still(folder: Path, name: str) -> None:
    """Label a picture of a folder of stills."""
    face = [[0.5 + 0.1 * np.cos(i), 0.4 + 0.1 * np.sin(i)] for i in range(478)]
    pose = [[0.5 + 0.2 * np.cos(i), 0.6 + 0.2 * np.sin(i), 1.0] for i in range(33)]
    (folder / "keypoints.json").write_text(json.dumps({name: {"face": face, "pose33": pose}}))


def test_stills_stay_in_their_folder(tmp_path: Path) -> None:
    from cyberhost_model.lab.synthetic.stills import load_stills

    outside, folder = tmp_path / "secret.png", tmp_path / "stills"
    folder.mkdir()
    with Image.open(Path(__file__).parents[1] / "examples" / "astronaut.jpg") as image:
        image.resize((96, 96)).save(outside)
    (folder / "link.png").symlink_to(outside)
    for name in ("../secret.png", str(outside), "link.png"):
        still(folder, name)
        with pytest.raises(InputError, match="lies outside its folder"):
            load_stills(folder)
    with Image.open(outside) as image:
        image.save(folder / "a.png")
        image.save(folder / "b.png", format="GIF")
        image.save(folder / "c.png", format="TIFF")
    still(folder, "a.png")
    assert len(load_stills(folder)) == 1
    for name in ("b.png", "c.png"):
        still(folder, name)
        with pytest.raises(InputError, match="not a PNG, JPEG or WebP"):
            load_stills(folder)


@pytest.mark.parametrize(
    "labels",
    [
        0,
        [],
        {"a.png": 3},
        {"a.png": {"face": [[0, 0]], "pose33": [[0, 0]]}},
        {"a.png": {"face": "x", "pose33": {}}},
        {"a.png": {"face": [[float("nan"), 0]] * 478, "pose33": [[0, 0]] * 33}},
        {"a.png": {"face": [[1e30, 0]] * 478, "pose33": [[0, 0]] * 33}},
    ],
)
def test_labels_of_stills_of_other_types(labels: Any, tmp_path: Path) -> None:
    from cyberhost_model.lab.synthetic.stills import load_stills

    (tmp_path / "keypoints.json").write_text(json.dumps(labels))
    with pytest.raises(InputError):
        load_stills(tmp_path)


def test_every_number_has_bounds() -> None:
    """Whatever is typed, an infinite or huge number ends with 2 before work begins."""

    def below(name: str, command: Any) -> list[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        return [(name, command)] if inner is None else [x for n, c in inner.items() for x in below(f"{name} {n}", c)]

    numbers = []
    for name in cli.COMMANDS:
        group = typer.main.get_command(cli.build_app([name])).commands[name]  # type: ignore[attr-defined]
        for path, command in below(name, group):
            for option in command.params:
                described = getattr(option, "type_descriptor", None)
                kind = str(described.annotation if described is not None else option.type)
                if ("float" in kind or "int" in kind.lower().replace("interval", "")) and "Path" not in kind:
                    bounds = option if described is not None else option.type
                    numbers.append((path, option.name, bounds.min, bounds.max))
    assert len(numbers) > 40
    assert not [entry for entry in numbers if None in entry[2:]]


@pytest.mark.parametrize(
    "typed",
    [
        ("animate", "a.png", "b.wav", "-o", "o.mp4", "--fps", "nan"),
        ("animate", "a.png", "b.wav", "-o", "o.mp4", "--body-movement", "nan"),
        ("animate", "a.png", "b.wav", "-o", "o.mp4", "--guidance-interval", "nan,nan"),
        ("animate", "a.png", "b.wav", "-o", "o.mp4", "--seed", "9" * 5000),
        ("reenact", "a.png", "b.mp4", "-o", "o.mp4", "--guidance-audio", "inf"),
        ("train", "--stage", "codec", "-o", "run", "--minutes", "nan"),
        ("train", "--stage", "codec", "-o", "run", "--device", "cuda:x"),
        ("train", "--stage", "codec", "-o", "run", "--save-minutes", "1e308"),
        ("data", "prepare", "v", "-o", "d", "--min-sync", "nan"),
        ("data", "prepare", "v", "-o", "d", "--area", "9" * 5000 + "x64"),
        ("data", "synth", "-o", "d", "--clips", "99999999999"),
        ("template", "extract", "v.mp4", "-o", "k.npz", "--max-seconds", "inf"),
    ],
)
def test_numbers_that_make_no_sense(
    typed: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ends(capsys, *typed)[0] == ExitStatus.USAGE
    assert not list(tmp_path.iterdir())


def test_a_preset_is_what_it_was() -> None:
    from cyberhost_model.config import PRESETS, Preset

    for name in PRESETS:
        assert Preset.from_dict(json.loads(json.dumps(preset(name).to_dict()))) == preset(name)


@pytest.mark.parametrize(
    "name", ["x" * 300, "a/" + "b" * 200, "a/\x1b[31m", "a b/c", "~nobody/x/y", "a/b@\x1b", "a\udcff/b", ""]
)
def test_names_that_no_model_has(name: str) -> None:
    """They are told without asking the Hub."""
    from cyberhost_model.runtime.loading import find_model

    with pytest.raises(ModelError) as caught:
        find_model(name)
    assert str(caught.value).isprintable()


def test_settings_of_the_library_have_the_same_bounds() -> None:
    from cyberhost_model.lab.filmed.settings import Settings
    from cyberhost_model.lab.training.settings import LoopConfig

    nan, inf = float("nan"), float("inf")
    for wrong in ({"minutes": nan}, {"steps": 10**30}, {"lr": inf}, {"lr": nan}, {"seed": -1}, {"device": "cuda:x"}):
        with pytest.raises(TrainingError):
            LoopConfig(**{"steps": 1, **wrong}).check()  # type: ignore[arg-type]
    for other in ({"min_face": nan}, {"min_seconds": nan}, {"max_seconds": inf}, {"min_fps": -1.0}, {"min_sync": inf}):
        with pytest.raises(InputError):
            Settings(**other)  # type: ignore[arg-type]


def test_a_list_of_videos_with_a_name_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "v\udcff.mp4").write_bytes(b"video")
    code, line = ends(capsys, "data", "prepare", tmp_path / "v\udcff.mp4", "-o", tmp_path / "d")
    assert code == ExitStatus.INPUT and "v\\xff.mp4" in line
