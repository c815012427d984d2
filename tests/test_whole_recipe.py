"""`cyberhost train recipe`: every stage from nothing to a model that animates, resumed, and bound to its material."""

import json
from pathlib import Path

import pytest

from cyberhost_cli.main import main
from cyberhost_model import CyberHost, NoFaceError
from cyberhost_model.config import preset
from cyberhost_model.lab.filmed.manifest import NAME as MANIFEST
from cyberhost_model.lab.synthetic.sources import drawn_stills as few
from cyberhost_model.lab.synthetic.stills import LABELS
from cyberhost_model.lab.training.recipe import find_recipe, read_clips, read_recipe
from cyberhost_model.lab.training.stages.distill import distilled_preset
from cyberhost_model.lab.training.whole import STEPS, Material
from data_helpers import labelled_folders, stills_folder

EXAMPLES = Path(__file__).parents[1] / "examples"
RECIPE = """
[loop]
[clips]
count = 2
frames = 16
[codec]
steps = 1
[audio]
steps = 1
batch = 1
[detector]
steps = 1
drawn = 2
[lips]
steps = 1
drawn = 2
puppets = 1
[hear]
steps = 1
batch = 2
[1]
steps = 1
batch = 1
frames = 1
temporal = false
motion = 0.0
[pose]
steps = 1
batch = 1
[2]
steps = 1
hear = 0.3
[distill]
steps = 1
batch = 1
sampling_steps = 2
"""


def test_the_shipped_recipe_has_every_step():
    for step in STEPS:
        loop, _ = read_recipe(step.recipe or "tiny", step.stage)
        assert loop.steps > 100
    count, settings = read_clips("tiny")
    assert (
        count >= 1000
        and settings.keys() == {"frames", "drawn", "heads", "reaching", "filmed"}
        and not settings["filmed"]
    )


def test_what_was_filmed_goes_to_the_stages_that_can_use_it(tmp_path):
    videos, dataset, pictures = (str(tmp_path / name) for name in ("videos", "dataset", "pictures"))
    for folder, file in ((videos, "1.mp4"), (dataset, MANIFEST), (pictures, LABELS)):
        Path(folder).mkdir()
        (Path(folder) / file).touch()
    material = Material(["stills"], ["speech"], [videos, dataset, pictures], ["labels"])
    filmed = {stage: material.sources(stage, tmp_path).filmed for stage in ("audio", "codec", "detector", "lips")}
    assert filmed == {
        "audio": [videos, dataset],
        "codec": [dataset],
        "detector": [dataset, pictures],
        "lips": [dataset],
    }


@pytest.mark.slow
def test_one_command_makes_a_model_from_nothing_and_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cyberhost_model.lab.training.stages.codec.FITTED", 1)
    monkeypatch.setattr("cyberhost_model.lab.training.stages.detector.drawn_stills", lambda n, seed, **_: few(2, seed))
    speech, filmed = labelled_folders(tmp_path / "heard")
    stills, recipe, out = stills_folder(tmp_path / "people"), tmp_path / "small.toml", tmp_path / "whole"
    recipe.write_text(RECIPE)
    command = ["train", "recipe", str(recipe), "--stills", str(stills), "--speech", str(speech)]
    command += ["--filmed", str(filmed), "--labels", str(filmed), "--workers", "0", "-o", str(out), "--json"]
    assert main([*command, "--steps", "1"]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["model"] == str(out / "model")
    assert {p.name for p in out.iterdir()} >= {step.name for step in STEPS} | {"clips", "model", "recipe.json"}
    host = CyberHost.from_pretrained(out / "model")
    assert host.model.network.preset == distilled_preset(preset("tiny"), 2)
    with pytest.raises(NoFaceError):  # whom a detector of one step does not see
        host.animate(EXAMPLES / "astronaut.jpg", EXAMPLES / "speech.wav", size=256)

    before = {p: p.stat().st_mtime_ns for p in out.glob("*/last/model.safetensors")}
    assert len(before) == len(STEPS)
    assert main([*command, "--steps", "1"]) == 0  # everything is there
    assert {p: p.stat().st_mtime_ns for p in before} == before
    capsys.readouterr()
    assert main([*command, "--steps", "1", "--clips", "3"]) == 9
    assert "clips" in capsys.readouterr().err


def test_datasets_of_filmed_people_go_to_every_stage_that_takes_them(tmp_path):
    """Folders of clips with labels are for stage audio alone; the codec that ships is there before clips are coded."""
    dataset, clips = tmp_path / "dataset", tmp_path / "clips"
    for folder in (dataset, clips):
        folder.mkdir()
    (dataset / "manifest.parquet").touch()
    material = Material(["stills"], ["speech"], [str(dataset), str(clips)], ["labels"])
    assert material.sources("audio", tmp_path).filmed == [str(dataset), str(clips)]
    assert material.sources("codec", tmp_path).filmed == [str(dataset)] == material.sources("lips", tmp_path).filmed
    names = [step.name for step in STEPS]
    assert names.index("codec") < names.index("close") < names.index("hear")


def test_missing_material_is_told_before_anything_is_made(tmp_path, capsys):
    assert main(["train", "recipe", "tiny", "--stills", str(tmp_path), "-o", str(tmp_path / "out")]) == 9
    assert "--speech" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("table", ["clips = 3", "[clips]\ncounts = 3"])
def test_a_wrong_table_of_clips_is_told(tmp_path, table):
    from cyberhost_model.errors import TrainingError

    (tmp_path / "wrong.toml").write_text(table)
    with pytest.raises(TrainingError, match="must be a table of count"):
        read_clips(find_recipe(tmp_path / "wrong.toml"))
