"""DWPose's decoding, and what is said where its library or its weights are missing."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from cyberhost_model.errors import ResourceError
from cyberhost_model.lab.evaluation.metric import Context
from cyberhost_model.lab.evaluation.metrics import akd, csim, hands
from cyberhost_model.lab.filmed.detectors import load_detector
from cyberhost_model.perception.dwpose import decode_simcc, person_regions


def test_simcc_takes_the_lower_of_both_scores():
    columns, rows = np.zeros((1, 2, 576), np.float32), np.zeros((1, 2, 768), np.float32)
    columns[0, 0, 101], rows[0, 0, 300] = 1.4, 0.7
    rows[0, 1, 5] = 0.9  # no column: not there
    places, scores = decode_simcc(columns, rows)
    assert np.allclose(places[0], [[50.5, 150], [-0.5, -0.5]]) and np.allclose(scores[0], [0.7, 0])


def test_regions_have_the_networks_aspect():
    middle, size = person_regions(np.array([[100, 100, 200, 400], [0, 0, 300, 100]], np.float32))
    assert np.allclose(middle, [[150, 250], [150, 50]])
    assert np.allclose(size, [[281.25, 375], [375, 500]])


def test_without_onnxruntime_the_extra_is_named(monkeypatch):
    real = importlib.import_module

    def without(name, package=None):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    nothing = Context(download=False)
    for load in (
        lambda: load_detector("dwpose"),
        lambda: akd.build(nothing),
        lambda: hands.build(nothing),
        lambda: csim.build(nothing),
    ):
        with pytest.raises(ResourceError, match=r"onnxruntime: pip install 'cyberhost\[face\]'"):
            load()
