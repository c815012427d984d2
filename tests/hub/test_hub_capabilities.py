"""What a model can do is known before it is fetched, and told in one line."""

from __future__ import annotations

import dataclasses

import pytest

from cyberhost_model.config import ABLATIONS, GenerationConfig, preset
from cyberhost_model.errors import InputError, ModelError
from cyberhost_model.hub.capabilities import MODELS, capabilities_of, check_request, check_trained
from cyberhost_model.hub.registry import ADAPTERS, REGISTRY, load_adapter

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
    check_request("echomimic-v2", hands, "multimodal", PLAIN)
    still = capabilities_of(
        preset("tiny").without(
            **ABLATIONS["w/o Body Movement"],
        )
    )
    assert "reenact" in still.commands  # pose_shift follows key points too
    still = capabilities_of(dataclasses.replace(preset("sd15").without(**ABLATIONS["w/o Body Movement"])))
    with pytest.raises(InputError, match="mine cannot reenact: use animate"):
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
    check_request("tiny", MODELS["tiny"], "animate", GenerationConfig(**{option: value}), body_movement=0.3)


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
