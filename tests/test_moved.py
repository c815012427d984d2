"""Documented names of 0.1 still work, and say that they have moved."""

from __future__ import annotations

import importlib
import sys
import warnings

import pytest

from cyberhost_model.moved import MOVED

DOCUMENTED = {
    "cyberhost_model.evaluation.run": "evaluate",
    "cyberhost_model.evaluation.report.single": "report_video",
    "cyberhost_model.dataset.manifest": "read_manifest",
    "cyberhost_model.dataset.labels": "read_labels",
    "cyberhost_model.presets": "preset",
    "cyberhost_model.pipeline": "CyberHost",
}


@pytest.mark.parametrize(("module", "name"), DOCUMENTED.items())
def test_an_old_name_leads_to_the_new_place(module, name):
    for known in [known for known in sys.modules if known in MOVED]:
        del sys.modules[known]
    with pytest.warns(DeprecationWarning, match=f"{module} is now {MOVED[module]}"):
        old = importlib.import_module(module)
    assert getattr(old, name) is getattr(importlib.import_module(MOVED[module]), name)


def test_names_from_the_top_of_the_package_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        from cyberhost_model import Animation, CyberHost, CyberHostError, InputError  # noqa: F401
        from cyberhost_model.driving import PoseSequence, read_poses, retarget  # noqa: F401
        from cyberhost_model.hub import locate  # noqa: F401
