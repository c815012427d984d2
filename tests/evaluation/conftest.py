"""Make what several tests of evaluation use: a run to report on, and the scripts importable."""

import sys
from pathlib import Path

import pytest
from report_helpers import evaluation

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))  # for eval_degradations


@pytest.fixture(scope="session")
def drawn_run(tmp_path_factory):
    """A run on three short videos of drawn people; its numbers are made up."""
    return evaluation(tmp_path_factory.mktemp("drawn"))
