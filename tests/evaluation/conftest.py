"""What several tests of evaluation look at."""

import pytest
from report_helpers import evaluation


@pytest.fixture(scope="session")
def drawn_run(tmp_path_factory):
    """A run on three short videos of drawn people; its numbers are made up."""
    return evaluation(tmp_path_factory.mktemp("drawn"))
