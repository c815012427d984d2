"""The collection of raw videos and the dataset prepared from it, made once a session."""

from pathlib import Path

import pytest
from raw_videos import SETTINGS, raw_collection

from cyberhost_model.lab.filmed.build import PrepareSummary, prepare_dataset


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of the fault -> video."""
    return raw_collection(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="session")
def prepared(raw: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrepareSummary, list[str]]:
    """The dataset of all of them, what the run reported, and its warnings."""
    dataset, warnings = tmp_path_factory.mktemp("prepared") / "set", []
    report = prepare_dataset(list(raw.values()), dataset, SETTINGS, workers=0, warn=warnings.append)
    return dataset, report, warnings
