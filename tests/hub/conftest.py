"""A local Hub, and an environment in which everything of Hugging Face points to it."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import BODY, Hub

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running server, and this process' huggingface_hub set to it: its own cache, no token, no waiting between
    tries.
    """
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    from cyberhost_model.hub.progress import Reporter, reporting

    home = tmp_path / "home"
    with Hub() as running:
        for name, value in {
            "ENDPOINT": running.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": running.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DOWNLOAD_TIMEOUT": 5,
        }.items():
            for module in (constants, file_download):  # older versions copy some at import
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        if hasattr(_http, "close_session"):
            _http.close_session()  # connections of another test's server
        with reporting(Reporter()):
            yield running


@pytest.fixture
def known(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A registry of two models: one on the Hub, one on a server of its own."""
    sha = hashlib.sha256(BODY).hexdigest()
    hub.add("lab/pair", {"a/config.json": b"{}", "a/model.bin": BODY})
    hub.plain["net.pth"] = BODY
    from cyberhost_model.hub import registry
    from cyberhost_model.hub.registry import WeightFile, Weights

    models = (
        Weights(
            "pair",
            "two files",
            "MIT",
            (WeightFile("a/config.json", 2), WeightFile("a/model.bin", len(BODY), sha)),
            repo="lab/pair",
        ),
        Weights(
            "net",
            "one file",
            "research only",
            (WeightFile("net.pth", len(BODY), sha),),
            url=f"{hub.url}/plain",
            commercial=False,
        ),
    )
    monkeypatch.setattr(registry, "_ALL", models)
    monkeypatch.setitem(registry.GROUPS, "both", ("pair", "net"))
    for name in [m.name for m in registry.REGISTRY.values()]:
        monkeypatch.delitem(registry.REGISTRY, name)
    for model in models:
        monkeypatch.setitem(registry.REGISTRY, model.name, model)
    return hub


@pytest.fixture
def elsewhere(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """The environment of a process of its own that uses the same Hub and cache."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()
    }
    return {
        **kept,
        "HF_HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        "PYTHONPATH": f"{SRC}{os.pathsep}{Path(__file__).parent}",
    }


@pytest.fixture(scope="session")
def python() -> str:
    return sys.executable


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    """See `peer_models.write_published`."""
    from peer_models import write_published

    root = tmp_path_factory.mktemp("peers")
    write_published(root)
    return root
