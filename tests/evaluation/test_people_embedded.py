"""The offline protocol on drawn people. That every step of a degradation is noticed: test_eval_degradations."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "dataset"))

from eval_degradations import shift_frames
from raw_videos import pictures, speaker

from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
from cyberhost_model.lab.evaluation.metric import Context, Sample
from cyberhost_model.lab.evaluation.metrics import akd, csim, hands
from cyberhost_model.lab.evaluation.protocol import PROTOCOL_EMBEDDED

FRAMES = 16


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(networks="embedded", download=False)


@pytest.fixture(scope="module")
def clip():
    """A person both of whose hands the embedded detector sees well, and who moves them."""
    return speaker(5, FRAMES)


@pytest.fixture(scope="module")
def frames(clip) -> np.ndarray:
    return np.stack(pictures(clip))


@pytest.fixture(scope="module")
def look(context):
    """Frames -> features."""
    extractor = hands.build(context).needs["generated"]

    def features(shown: np.ndarray) -> dict[str, np.ndarray]:
        extractor.begin(VideoInfo(Path("x"), 25.0, (shown.shape[2], shown.shape[1]), len(shown)))
        extractor.push(shown)
        return extractor.finish()

    return features


@pytest.fixture(scope="module")
def true(look, frames) -> dict[str, np.ndarray]:
    return look(frames)


def values(metric, generated, **others):
    pairs = np.stack([np.arange(FRAMES)] * 2, 1)
    sample = Sample(
        "clip",
        "somebody",
        FRAMES,
        25.0,
        {"generated": generated, **others},
        pairs,
    )
    return {name: value.value for name, value in metric.measure_video(sample).items()}


def test_all_four_share_one_look_at_the_frames_and_say_their_protocol(context):
    metrics = [csim.build(context), akd.build(context), hands.build(context)]
    assert {m.protocol for m in metrics} == {PROTOCOL_EMBEDDED}
    assert len({id(m.needs["generated"]) for m in metrics}) == 1
    assert all(list(m.weights) == ["tiny/detector/model.safetensors"] for m in metrics)


def test_a_shift_is_measured_by_akd(context, look, frames, true):
    """In pixels at height 640 the frames of 320 move twice as far, in x alone: the mean over both axes is the shift."""
    found = [
        values(akd.build(context), look(shift_frames(frames, pixels)), ground_truth=true)["AKD"]
        for pixels in (2, 5, 10)
    ]
    assert values(akd.build(context), true, ground_truth=true)["AKD"] == 0
    assert found == pytest.approx([2, 5, 10], rel=0.4) and found[0] < found[1] < found[2]


def test_a_covered_person_is_not_there(context, look, frames):
    empty = look(np.full_like(frames, 90))
    found = values(hands.build(context), empty)
    assert found["HKC"] == 0 and np.isnan(found["HKV"])
    assert np.isnan(values(csim.build(context), empty, image={k: v[:1] for k, v in empty.items()})["CSIM"])
