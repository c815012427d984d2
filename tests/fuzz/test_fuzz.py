"""A few cases of every reader on damaged files, and values of any kind against what checks them.

The full size: `python -m tests.fuzz --cases 10000 --seed 0` (docs/reference/robustness.md).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fuzz_targets import LEFT_OUT_OF_CI, TARGETS, run_case
from hypothesis import given, settings
from hypothesis import strategies as st

from cyberhost_model.config import Preset, preset
from cyberhost_model.errors import InputError, ModelError, printable
from cyberhost_model.reading import Unreadable, build, parse_json

CASES = 10
"""Damaged files for each reader."""
SLOW = {"model config": 4, "model weights": 4, "stills": 4, "recipe": 6}
QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_not_damaged_is_read(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    assert target.read(target.make(tmp_path)) is not None


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in LEFT_OUT_OF_CI])
def test_damaged_files_end_with_their_code(name: str, tmp_path: Path) -> None:
    found = {}
    for number in range(SLOW.get(name, CASES)):
        folder = tmp_path / str(number)
        folder.mkdir()
        if words := run_case(name, number, 0, folder):
            found[number] = words
    assert not found


@QUICK
@given(VALUES)
def test_a_preset_is_built_or_told(value: object) -> None:
    with pytest.raises(ModelError) as caught:
        Preset.from_dict(value)
    assert "\n" not in str(caught.value)


@QUICK
@given(st.sampled_from(["frames", "size", "codec", "pose_channels", "motion_prior", "unet", "sampling"]), VALUES)
def test_an_entry_of_a_preset_is_taken_or_told(name: str, value: object) -> None:
    data = {**preset("tiny").to_dict(), name: value}
    try:
        assert Preset.from_dict(data).to_dict()[name] is not None
    except ModelError as error:
        assert "config.json" in str(error) or "codec" in str(error)


@QUICK
@given(st.text())
def test_what_is_printed_moves_no_cursor(text: str) -> None:
    shown = printable(text)
    assert all(letter in "\n\t" or (ord(letter) >= 32 and not 127 <= ord(letter) < 160) for letter in shown)
    shown.encode("utf-8")
    assert printable(shown) == shown


@QUICK
@given(st.text(alphabet='[]{}":,0123456789eE+-.tfn \\u', max_size=60))
def test_text_is_json_or_unreadable(text: str) -> None:
    try:
        parsed = parse_json(text)
    except Unreadable:
        return
    json.dumps(parsed)


@QUICK
@given(VALUES)
def test_a_record_is_built_or_unreadable(value: object) -> None:
    from cyberhost_model.lab.filmed.manifest import Row
    from cyberhost_model.lab.training.checkpoint import RunState

    for kind in (Row, RunState):
        with pytest.raises(Unreadable):
            build(kind, value)


def test_numbers_are_finite_and_bounded() -> None:
    from cyberhost_model.config import GenerationConfig

    for name, values in {
        "seed": (-1, 2**64, 10**5000),
        "fps": (float("nan"), float("inf"), 0.0, 1e308),
        "guidance_audio": (float("nan"), float("inf"), -1.0, 1e9),
        "hand_clarity": (float("nan"), 2.0),
        "guidance_interval": ((float("nan"), 1.0), (0.0, float("inf"))),
        "cache_blocks": (0, 10**9),
        "size": (0, 10**9),
        "steps": (0, 10**9),
    }.items():
        for value in values:
            with pytest.raises(InputError):
                GenerationConfig(**{name: value})
