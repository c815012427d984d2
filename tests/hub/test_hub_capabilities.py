"""What a model can do is known before it is fetched, and told in one line."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from hub_server import Hub

from cyberhost_cli.main import main
from cyberhost_model import CyberHost
from cyberhost_model.config import ABLATIONS, GenerationConfig, preset
from cyberhost_model.errors import InputError, ModelError
from cyberhost_model.hub.capabilities import DUB, MODELS, OPTIONS, capabilities_of, check_request, check_trained
from cyberhost_model.hub.registry import ADAPTERS, REGISTRY, load_adapter
from cyberhost_model.lab.training.init import build_network
from cyberhost_model.model.checkpoint import (
    check_network,
    load_network,
    read_untrained,
    recorded_untrained,
    save_network,
)
from cyberhost_model.runtime.loading import find_model, model_capabilities

PLAIN = GenerationConfig()


def full_size(name):
    return preset("tiny") if name == "tiny" else load_adapter(name).full_size()


def test_every_model_with_a_name_has_an_entry():
    assert set(MODELS) == {"tiny", *ADAPTERS}


@pytest.mark.parametrize("name", list(MODELS))
def test_the_entries_say_what_the_networks_are(name):
    """What can be read off the preset is read off it; the table may only know more."""
    told, read = MODELS[name], capabilities_of(full_size(name))
    assert told.commands == read.commands and told.hears == read.hears
    assert set(told.options) <= set(read.options)


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_the_entries_know_the_licences_of_the_parts(name):
    told, parts = MODELS[name], [REGISTRY[w] for w in load_adapter(name).parts.values()]
    assert told.commercial == all(part.commercial for part in parts)
    assert ("Open RAIL-M" in told.licence) == any("Open RAIL-M" in part.licence for part in parts)
    assert ("MIT" in told.licence) <= any("MIT" in part.licence for part in parts)


def test_a_wrong_command_names_the_right_ones():
    deaf, hands = MODELS["animate-anyone"], MODELS["echomimic-v2"]
    check_request("animate-anyone", deaf, "reenact", PLAIN)
    with pytest.raises(InputError, match="animate-anyone hears nothing: use reenact"):
        check_request("animate-anyone", deaf, "animate", PLAIN)
    for command in ("animate", "multimodal", "reenact"):
        check_request("echomimic-v2", hands, command, PLAIN, body_movement=0.5 if command == "animate" else None)
    with pytest.raises(InputError, match="hallo cannot run reenact: use animate"):
        check_request("hallo", MODELS["hallo"], "reenact", PLAIN)
    with pytest.raises(InputError, match="does not heed body_movement"):
        check_request("echomimic", MODELS["echomimic"], "animate", PLAIN, body_movement=0.5)
    still = capabilities_of(
        preset("tiny").without(
            **ABLATIONS["w/o Body Movement"],
        )
    )
    assert "reenact" in still.commands  # pose_shift follows key points too
    still = capabilities_of(dataclasses.replace(preset("sd15").without(**ABLATIONS["w/o Body Movement"])))
    with pytest.raises(InputError, match="mine cannot run reenact: use animate"):
        check_request("mine", still, "reenact", PLAIN)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("hand_clarity", 0.5, "leave out --hand-clarity"),
        ("guidance_audio", 2.0, "leave out --guidance-audio"),
        ("head", True, "leave out --head"),
    ],
)
def test_an_option_that_is_not_heeded_is_refused(option, value, words):
    can = dataclasses.replace(MODELS["animate-anyone"], framing=("body",))
    with pytest.raises(InputError, match=words):
        check_request("animate-anyone", can, "reenact", GenerationConfig(**{option: value}))
    heeds = dataclasses.replace(MODELS["tiny"], options=OPTIONS)
    check_request("tiny", heeds, "animate", GenerationConfig(**{option: value}), body_movement=0.3)


def test_heads_alone_and_fixed_steps():
    can = dataclasses.replace(MODELS["tiny"], framing=("head",), options=())
    check_request("portrait", can, "animate", GenerationConfig(head=True))
    with pytest.raises(InputError, match="leave out --no-head"):
        check_request("portrait", can, "animate", GenerationConfig(head=False))
    with pytest.raises(InputError, match="does not heed steps"):
        check_request("portrait", can, "animate", GenerationConfig(steps=4))
    with pytest.raises(InputError, match="leave out --body-movement"):
        check_request("portrait", can, "animate", PLAIN, body_movement=0.5)


def test_what_was_never_trained_is_told():
    with pytest.raises(ModelError, match="sd15: what hears speech was never trained .* --allow-untrained"):
        check_trained("sd15", MODELS["sd15"].untrained)
    check_trained("mine", ["poses"], "animate")
    with pytest.raises(ModelError, match="what follows poses"):
        check_trained("mine", ["poses"], "reenact")
    check_trained("tiny", MODELS["tiny"].untrained, "multimodal")


@pytest.fixture
def inputs(portrait_file: Path, tone, tmp_path: Path) -> dict[str, list[str]]:
    """Command -> its line with inputs that are right."""
    sound, out = str(tone(seconds=0.4)), str(tmp_path / "out.mp4")
    key_points, film = tmp_path / "driving.json", tmp_path / "film.mp4"
    key_points.write_text("{}")
    film.write_bytes(b"is not opened")
    ends = {
        "animate": [str(portrait_file), sound],
        "reenact": [str(portrait_file), str(key_points)],
        "multimodal": [str(portrait_file), "--audio", sound, "--hands", "wave"],
        "dub": [str(film), sound],
    }
    return {command: [command, *end, "-o", out] for command, end in ends.items()}


@pytest.mark.parametrize("plan", [[], ["--plan"]])
@pytest.mark.parametrize("model", sorted(ADAPTERS))
def test_what_a_model_cannot_do_is_told_before_the_first_byte(hub: Hub, inputs, capsys, model, plan):
    """No request leaves, not even for a list of files."""
    can = MODELS[model]
    for command, line in inputs.items():
        if (command in can.commands and not can.untrained) or (command == DUB and plan):
            continue  # what it can do, and `dub`, which has no --plan
        assert main([*line, "--model", model, *plan]) == (6 if command in can.commands else 3)
        said = capsys.readouterr()
        assert said.err.count("\n") == 1 and model in said.err and not said.out
    assert not hub.requests


@pytest.mark.parametrize("plan", [[], ["--plan"]])
@pytest.mark.parametrize("model", [name for name, can in MODELS.items() if len(can.options) < len(OPTIONS)])
def test_options_are_checked_before_the_first_byte(hub: Hub, inputs, capsys, model, plan):
    """Each option that a model does not heed, by the command that it was trained for."""
    can = MODELS[model]
    for name in set(OPTIONS) - set(can.options):
        option, command = f"--{name.replace('_', '-')}", can.commands[0]
        if command != "animate" and name in ("body_movement", "gestures"):
            continue  # it has no such option
        words = {"gestures": [option], "ref": [option, inputs[command][1]]}.get(name, [option, "0.5"])
        assert main([*inputs[command], "--model", model, *words, *plan]) == 3
        said = capsys.readouterr()
        assert f"{model} does not heed" in said.err and f"leave out {option}" in said.err and not said.out
    assert not hub.requests


def test_the_library_refuses_before_the_first_byte(hub: Hub):
    with pytest.raises(ModelError, match="never trained"):
        CyberHost.from_pretrained("sd15")
    for name, can in MODELS.items():  # what `--plan`, `doctor` and `weights list` tell, too
        assert model_capabilities(name) == model_capabilities(name, ask=False) == can
    assert not hub.requests


def test_weights_list_says_what_models_can_do(hub: Hub, capsys):
    assert main(["weights", "list"]) == 0
    shown = capsys.readouterr().out
    assert "--model animate-anyone: a whole person who follows poses; reenact; hears nothing" in shown
    assert "not before it is trained (audio, poses)" in shown
    for name, can in MODELS.items():
        line = next(line for line in shown.splitlines() if line.startswith(f"--model {name}: "))
        assert can.makes in line and line.endswith(f"GPU memory {can.vram} [{can.licence}]")
    assert main(["weights", "list", "tiny", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["weights"] == [] and told["models"]["tiny"]["commands"] == ["animate", "reenact", "multimodal", "dub"]
    assert not hub.requests


def test_doctor_says_what_a_model_can_do_before_it_is_fetched(counted_at_once, hub: Hub, capsys):
    main(["doctor", "--model", "hallo2", "--device", "cpu"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "hallo2: a head that speaks, for long videos; animate; hears speech" in shown and not hub.gets()


# Models that are in no table: their folder says it.


def small_model(folder: Path, audio: bool = True, temporal: bool = True) -> Path:
    """The embedded model with its network trained in part."""
    shutil.copytree(find_model("tiny"), folder)
    network = load_network(folder)
    fresh = build_network(network.preset)
    own, begun = network.state_dict(), fresh.state_dict()
    kept = {
        name: begun[name]
        if (not audio and name.startswith("audio_projection.")) or (not temporal and ".motion_modules." in name)
        else own[name]
        for name in own
    }
    fresh.load_state_dict(kept)
    save_network(fresh, folder)
    return folder


def test_a_folder_says_what_was_never_trained(tmp_path, inputs, capsys):
    folder = small_model(tmp_path / "mine", audio=False, temporal=False)
    assert recorded_untrained(folder) == ["temporal", "audio"] and check_network(folder).name == "tiny"
    line = [*inputs["animate"], "--model", str(folder), "--size", "64", "--steps", "1", "--fps", "5"]
    assert main(line) == 6
    said = capsys.readouterr().err
    assert "what holds frames together and what hears speech was never trained" in said and said.count("\n") == 1
    assert main([*line, "--allow-untrained", "--quiet"]) == 0 and (tmp_path / "out.mp4").is_file()
    with pytest.raises(ModelError, match="never trained"):
        CyberHost.from_pretrained(folder, device="cpu")


def test_the_weights_of_an_older_folder_say_it(tmp_path):
    folder = small_model(tmp_path / "mine", audio=False)
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("untrained") == ["audio"]
    (folder / "config.json").write_text(json.dumps(config))
    assert recorded_untrained(folder) is None and read_untrained(folder) == ["audio"]
    assert read_untrained(find_model("tiny")) == []


def test_a_network_of_random_weights_was_never_trained(tmp_path):
    save_network(build_network(preset("tiny")), tmp_path, torch.float32)
    assert recorded_untrained(tmp_path) == ["temporal", "audio", "poses"]


def test_a_model_on_the_hub_is_asked_for_its_configuration_alone(hub: Hub, tmp_path, inputs, capsys):
    folder = small_model(tmp_path / "mine", audio=False)
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    hub.add("someone/model", files)
    assert main([*inputs["animate"], "--model", "someone/model"]) == 6
    assert "someone/model: what hears speech was never trained" in capsys.readouterr().err
    fetched = [r.path for r in hub.requests if "/resolve/" in r.path]
    assert fetched and all(path.endswith(".json") for path in fetched)


def test_the_page_of_models_says_what_the_table_says():
    page = (Path(__file__).resolve().parents[2] / "docs/user/models.md").read_text(encoding="utf-8")
    rows = {
        line.split("`")[1]: [cell.strip() for cell in line.strip("| ").split("|")]
        for line in page.splitlines()
        if line.startswith("| `") and line.count("|") == 9 and "`--model`" not in line
    }
    assert set(rows) == set(MODELS)
    for name, can in MODELS.items():
        _, makes, commands, hears, memory, speed, licence, limits = rows[name]
        assert (makes, memory, speed, licence, limits) == (can.makes, can.vram, can.speed, can.licence, can.limits)
        if can.untrained:
            assert commands == f"none before it is trained ({', '.join(can.untrained)})" and not hears
        else:
            assert commands == ", ".join(can.commands) and hears == ("yes" if can.hears else "no")
