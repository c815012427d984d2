"""`cyberhost train person`: a video of somebody becomes a model of them, measured on clips that were held out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from raw_videos import speaker, voice, write

from cyberhost_cli.main import main
from cyberhost_model import CyberHost
from cyberhost_model.config import EMBEDDED
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.filmed.manifest import Row, write_manifest
from cyberhost_model.lab.training import person
from cyberhost_model.lab.training.person import TaughtPerson, split_clips
from cyberhost_model.lab.training.reports import read_curves

pytest.importorskip("av")
pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A drawn person who speaks for two clips, each of a coded stretch of 32 frames and a little."""
    clip = speaker(0, frames=68)
    return write(tmp_path_factory.mktemp("film") / "anna.mp4", [frame.picture_u8 for frame in clip.frames], voice(clip))


@pytest.fixture
def base(tmp_path):
    """The embedded model at a quarter of its usual area."""
    folder = shutil.copytree(EMBEDDED / "tiny", tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    config["preset"]["size"] = [128, 128]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
def test_a_video_becomes_a_model_and_goes_on_where_it_stopped(film, base, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(person, "SECONDS", (1.3, 1.4))
    monkeypatch.setattr(person, "CUTS", 1)
    out = tmp_path / "out"
    command = ["train", "person", str(film), "--base", str(base), "-o", str(out), "--workers", "0", "--json"]
    command += ["--set", "person.batch=1", "--set", "person.warmup=0"]
    assert main([*command, "--steps", "1", "--validate-every", "1"]) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    assert found["clips"] == found["held_out"] == 1 and found["model"] == str(out / "model")
    assert found["before"].keys() == found["after"].keys() and found["before"]["valid"] != found["after"]["valid"]
    assert json.loads((out / "errors.json").read_text()) == {k: found[k] for k in ("before", "after")}
    taught, own = (CyberHost.from_pretrained(folder).model.network for folder in (out / "model", base))
    assert taught.preset == own.preset and not (out / "model" / "README.md").exists()
    now = taught.state_dict()
    changed = {name for name, value in own.state_dict().items() if not torch.equal(value, now[name])}
    assert changed and all(".attn" in name and ".to_" in name for name in changed)

    shards = {path: path.stat().st_mtime_ns for path in out.rglob("shard-*")}
    assert main([*command, "--steps", "2", "--validate-every", "1"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["before"] == found["before"] and all(path.stat().st_mtime_ns == t for path, t in shards.items())
    assert [row["step"] for row in read_curves(out / "run" / "curves.csv")[1]] == ["1", "2"]
    assert main([*command, "--steps", "2", "--crop", "head"]) == 9
    assert "a model of other crop" in capsys.readouterr().err


def test_the_errors_are_told_by_region():
    before = {"valid": 0.5, "valid_face": 0.4, "valid_hands": 0.0, "valid_lips": 0.3, "valid_t0.1": 0.2}
    taught = TaughtPerson(Path("model"), 4, 1, before, {**before, "valid": 0.6, "valid_face": 0.2})
    assert taught.regions() == {"whole": (0.5, 0.6), "face": (0.4, 0.2), "lips": (0.3, 0.3)}  # no hand is seen
    assert not taught.learnt


def test_bases_that_cannot_be_taught_are_refused(film, base, tmp_path, capsys):
    config = json.loads((base / "config.json").read_text())
    config["preset"]["pose_maps"] = "dwpose"
    (base / "config.json").write_text(json.dumps(config))
    assert main(["train", "person", str(film), "--base", str(base), "-o", str(tmp_path / "out")]) == 9
    assert "draws its poses otherwise" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_clip_is_too_few_and_the_last_fifth_is_held_out(tmp_path):
    files = {"video": "talk.mp4", "labels": "talk.npz"}
    rows = [Row(f"talk/{k}", "accepted", "/talk.mp4", start=4.0 * k, **files) for k in range(10)]
    write_manifest(tmp_path, [*rows[::-1], Row("talk/10", "rejected", "/talk.mp4", start=40.0)])
    learn, held = split_clips(tmp_path)
    assert [row.clip for row in learn] == [f"talk/{k}" for k in range(8)]
    assert [row.clip for row in held] == ["talk/8", "talk/9"]
    write_manifest(tmp_path, rows[:1])
    with pytest.raises(TrainingError, match="1 clips of 2 to 4 s can be used"):
        split_clips(tmp_path)
