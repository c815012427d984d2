"""What would be fetched is told without fetching it."""

from __future__ import annotations

import hashlib
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from hub_server import BODY, Fault, Hub

from cyberhost_cli import main as cli
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model.config import EMBEDDED
from cyberhost_model.doctor.network import ask_hub
from cyberhost_model.errors import ModelError, NetworkError
from cyberhost_model.hub.cache import downloads_folder, hub_cache, repository_folder
from cyberhost_model.hub.download import partial_path
from cyberhost_model.hub.inventory import MissingWeights, missing_weights
from cyberhost_model.hub.locate import locate
from cyberhost_model.porting import convert
from cyberhost_model.porting.parts import save_detector
from cyberhost_model.runtime.loading import find_model, missing_model


def installed() -> set[str]:
    """Parts whose library is on this machine: without it nothing is fetched for them."""
    return {part for part, library in {"arcface": "insightface"}.items() if find_spec(library)}


def folder(hub: Hub) -> dict[str, bytes]:
    """The embedded model as a repository, with a file that is no part of it."""
    files = {
        str(p.relative_to(EMBEDDED / "tiny")): p.read_bytes() for p in (EMBEDDED / "tiny").rglob("*") if p.is_file()
    }
    hub.add("someone/model", {**files, "training.log": BODY})
    return files


def test_weights_of_the_registry(known: Hub) -> None:
    assert missing_weights(["both"]) == [
        MissingWeights("pair", 2 + len(BODY), "MIT"),
        MissingWeights("net", len(BODY), "research only", False),
    ]
    assert not known.requests
    locate("config.json")  # one of the two files of a model
    assert missing_weights(["pair"]) == [MissingWeights("pair", len(BODY), "MIT")]
    locate("net")
    assert missing_weights(["net"]) == []


def test_a_model_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    files = folder(hub)
    assert missing_model("someone/model") == [MissingWeights("someone/model", sum(map(len, files.values())))]
    assert not (tmp_path / "home").exists() and not hub.gets()
    find_model("someone/model")
    assert missing_model("someone/model") == []
    hub.faults.append(Fault("/api/", status=503))
    assert missing_model("someone/model") == []  # nobody answers; what is cached does
    with pytest.raises(NetworkError):
        missing_model("someone/else")
    with pytest.raises(ModelError, match="there is no model 'nothing'"):
        missing_model("nothing")


def test_embedded_and_converted_models(hub: Hub) -> None:
    assert missing_model("tiny") == [] and missing_model(str(EMBEDDED / "tiny")) == []
    absent = missing_model("sd15")
    assert {entry.name for entry in absent if not entry.spare} == {
        "sd15-unet",
        "sd15-vae",
        "animatediff-v2",
        "wav2vec2",
    }
    assert {entry.name for entry in absent if entry.spare} == {"dwpose"} | ({"arcface"} & installed())
    made = downloads_folder().parent / "models" / "sd15"
    shutil.copytree(EMBEDDED / "tiny", made)
    assert missing_model("sd15") == [] and not hub.requests


def test_a_model_that_names_what_is_not_here(
    hub: Hub, portrait_file: Path, tone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told, not fetched, and the model is measured with what stands in for it."""
    named = tmp_path / "named"
    shutil.copytree(EMBEDDED / "tiny", named)
    shutil.rmtree(named / "detector")
    save_detector("dwpose", named / "detector")
    [dwpose] = missing_model(str(named))
    assert dwpose.name == "dwpose" and dwpose.spare and dwpose.size > 10**8
    line = [
        "animate",
        str(portrait_file),
        str(tone(seconds=0.4)),
        "-o",
        str(tmp_path / "out.mp4"),
        "--model",
        str(named),
        "--plan",
    ]
    assert cli.main(line) == ExitStatus.OK
    shown = capsys.readouterr()
    assert "fetches    dwpose: " in shown.out and "does without" in shown.out and "takes      about" in shown.out
    assert "in place of the model's DWPose" in shown.err
    assert not hub.requests


def test_the_hub_answers(hub: Hub) -> None:
    found = ask_hub()
    assert found.reachable and found.seconds is not None and found.endpoint == hub.url


def test_a_plan_with_a_model_that_is_not_here(
    hub: Hub, portrait_file: Path, tone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The picture and the sound are checked all the same, and nothing is fetched."""
    folder(hub)
    sound = tone(seconds=0.4)
    line = [
        "animate",
        str(portrait_file),
        str(sound),
        "-o",
        str(tmp_path / "out.mp4"),
        "--model",
        "someone/model",
        "--plan",
    ]
    assert cli.main(line) == ExitStatus.OK
    shown = capsys.readouterr()
    assert "fetches    someone/model: " in shown.out and "face " in shown.out and "takes" not in shown.out
    assert "not on this machine" in shown.err
    assert not hub.gets() and [path.name for path in tmp_path.iterdir()] == [sound.name]


def test_what_a_stopped_download_brought_counts(known: Hub) -> None:
    """Of files of the Hub, which grow beside their blobs, and of those that lie elsewhere."""
    begun = {
        "pair": repository_folder("lab/pair") / "blobs" / hashlib.sha256(BODY).hexdigest(),
        "net": downloads_folder() / "net" / "net.pth",
    }
    for target in begun.values():
        target.parent.mkdir(parents=True)
        partial_path(target).write_bytes(BODY[:100])
    assert [entry.size for entry in missing_weights(["pair", "net"])] == [2 + len(BODY) - 100, len(BODY) - 100]


def test_each_disk_is_asked_for_its_own_share(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, int]] = []
    monkeypatch.setattr(convert, "need_space", lambda folder, size: asked.append((folder, size)))
    room, made = convert.room_to_convert("sd15"), downloads_folder().parent / "models"
    convert.need_room("sd15", 7)
    assert asked == [(hub_cache(), 7 + room)] and room > 1e9
    monkeypatch.setattr(convert, "device_of", lambda folder: int(folder == made))
    convert.need_room("sd15", 7)
    assert asked[1:] == [(hub_cache(), 7), (made, room)]
