"""`eval --drift`: seconds that are like the first one, and those that are not."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cyberhost_cli.exit_status import ExitStatus
from cyberhost_cli.main import main
from cyberhost_model.errors import InputError
from cyberhost_model.lab.evaluation.drift import Change, measure_drift
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.registry import embedded_detector


@pytest.fixture(scope="module")
def still(portrait_file: Path) -> np.ndarray:
    with Image.open(portrait_file) as picture:
        return np.asarray(picture.convert("RGB").resize((192, 192)))


def test_a_still_does_not_drift(still: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video([still] * 20, tmp_path / "still.mp4", 5)
    assert main(["eval", str(tmp_path), "--drift", "--json"]) == ExitStatus.OK
    told = json.loads(capsys.readouterr().out)
    assert told["seconds"] == 4
    for name in ("identity", "colour", "sharpness"):
        assert abs(told[name]["worst"]) < 0.02 and abs(told[name]["trend"]) < 0.02


def test_each_drift_is_seen_by_its_measure(still: np.ndarray, tmp_path: Path) -> None:
    redder = np.clip(still * np.array([1.2, 1, 1]), 0, 255).astype(np.uint8)
    blurred = cv2.GaussianBlur(still, (0, 0), 0.8)
    nobody = np.full_like(still, still.mean((0, 1)))
    write_video([still] * 5 + [redder] * 5 + [blurred] * 5 + [nobody] * 5, tmp_path / "drifts.mp4", 5)
    found = measure_drift(tmp_path / "drifts.mp4", embedded_detector())
    assert found.colour.seconds[0] > 0.1 > 0.02 > found.colour.seconds[1]
    assert found.sharpness.seconds[1] < -0.2
    assert found.identity.seconds[1] < 0.1 and np.isnan(found.identity.last)
    assert found.values()["identity"]["last"] is None


def test_the_trend_is_what_seconds_have_in_common() -> None:
    rng = np.random.default_rng(0)
    change = Change(tuple(np.linspace(0, 0.1, 200) + rng.normal(0, 0.02, 200)))
    assert change.trend == pytest.approx(0.1, abs=0.02) and change.worst > 0.1


def test_a_video_of_one_second_is_told(still: np.ndarray, tmp_path: Path) -> None:
    write_video([still] * 5, tmp_path / "short.mp4", 5)
    with pytest.raises(InputError, match="two whole seconds"):
        measure_drift(tmp_path / "short.mp4", embedded_detector())
