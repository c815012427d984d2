"""A metric from outside of the package: registered by one call, it is measured and reported like the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from eval_helpers import moving, write

from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.features.extractor import PerFrame
from cyberhost_model.lab.evaluation.metric import Context, Measure, Role, Sample, VideoValue
from cyberhost_model.lab.evaluation.registry import (
    MetricEntry,
    headline_measures,
    register_metric,
    select_metrics,
    unregister_metric,
)
from cyberhost_model.lab.evaluation.report.page import write_report
from cyberhost_model.lab.evaluation.results import read_results, write_results
from cyberhost_model.lab.evaluation.run import evaluate


def brightness(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Return the mean of each frame, 0..255."""
    return {"brightness": frames.mean((1, 2, 3), dtype=np.float64)[:, None]}


class Brightness:
    """Measure how far the mean brightness of a video is from its ground truth's."""

    protocol = "outside-1"
    weights: dict[str, str] = {}
    licence = ""

    def __init__(self) -> None:
        extractor = PerFrame("brightness", "1", brightness, {"brightness": 1})
        self.needs: dict[Role, PerFrame] = {"generated": extractor, "ground_truth": extractor}

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Compare the means over all frames."""
        generated, truth = (sample.features[role]["brightness"] for role in ("generated", "ground_truth"))
        return {"OUTSIDE": VideoValue(float(abs(generated.mean() - truth.mean())))}


def build(context: Context) -> Brightness:
    """Build the metric."""
    return Brightness()


ENTRY = MetricEntry(build, (Measure("OUTSIDE", "down", "levels", 1),), "ground_truth", protocol="outside-1")


@pytest.fixture
def registered() -> Iterator[MetricEntry]:
    """The metric, registered for one test."""
    register_metric(ENTRY)
    yield ENTRY
    unregister_metric(ENTRY)


def test_it_is_measured_and_reported(registered: MetricEntry, tmp_path: Path) -> None:
    frames = moving(0, 6) // 2
    write(tmp_path / "made" / "a.mp4", frames + 20)
    write(tmp_path / "true" / "a.mp4", frames)
    evaluation = evaluate(
        tmp_path / "made", tmp_path / "true", metrics=["SSIM", "outside"], cache=tmp_path / "cache", download=False
    )
    assert [(m.name, m.status) for m in evaluation.results.metrics] == [("SSIM", "ok"), ("OUTSIDE", "ok")]
    metric = evaluation.results.metric("OUTSIDE")
    assert metric is not None and metric.value == pytest.approx(20, abs=1)
    assert (metric.protocol, metric.unit, metric.decimals) == ("outside-1", "levels", 1)
    write_results(evaluation.results, tmp_path)
    write_report(evaluation, tmp_path)
    assert read_results(tmp_path).videos[0].values["OUTSIDE"].value == metric.value
    for name in ("report.html", "summary.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "OUTSIDE ↓ (levels)" in text and "outside-1" in text


def test_it_is_chosen_by_default_and_its_name_is_taken(registered: MetricEntry) -> None:
    assert headline_measures()[-1] == "OUTSIDE" and select_metrics()[-1] is registered
    with pytest.raises(ValueError, match="'OUTSIDE' is registered already"):
        register_metric(registered)


def test_it_can_be_named_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    entry = MetricEntry(__name__, ENTRY.measures)
    assert isinstance(entry.load()(Context()), Brightness)


def test_without_being_registered_it_is_unknown() -> None:
    assert "OUTSIDE" not in headline_measures()
    with pytest.raises(InputError, match="no metric 'OUTSIDE': choose from .*SSIM"):
        select_metrics(["OUTSIDE"])
    with pytest.raises(ValueError):
        unregister_metric(ENTRY)
