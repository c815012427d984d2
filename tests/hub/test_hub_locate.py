"""The registry, and weights by name: on the Hub and on plain servers, licence told once."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hub_server import BODY, Fault

from cyberhost_model.errors import ModelError, NetworkError
from cyberhost_model.hub.cache import downloads_folder
from cyberhost_model.hub.locate import locate
from cyberhost_model.hub.progress import Reporter, reporting
from cyberhost_model.hub.registry import REGISTRY, find


def test_the_registry_is_consistent():
    names = [file.path.rsplit("/", 1)[-1] for weights in REGISTRY.values() for file in weights.files]
    for name in (
        "pt_inception-2015-12-05-6726825d.pth",
        "i3d_pretrained_400.pt",
        "syncnet_v2.model",
        "sfd_face.pth",
        "det_10g.onnx",
        "w600k_r50.onnx",
    ):
        assert names.count(name) == 1 and find(name)[1] is not None
    for weights in REGISTRY.values():
        assert weights.files and weights.licence and weights.what and weights.size > 0
        assert weights.revision is None or re.fullmatch("[0-9a-f]{40}", weights.revision)
        for file in weights.files:
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert file.sha256 or weights.repo  # elsewhere nobody states a digest
    assert not REGISTRY["arcface"].commercial and "non-commercial" in REGISTRY["arcface"].licence
    inception = REGISTRY["inception"].files[0]
    assert inception.sha256 and inception.sha256[:8] in inception.path  # torch's convention for file names
    with pytest.raises(ValueError, match="either repo or url"):
        dataclasses.replace(REGISTRY["dwpose"], url="https://example.org")


def test_a_file_and_a_folder_by_name(known):
    assert locate("net.pth").read_bytes() == BODY and locate("net.pth").is_relative_to(downloads_folder())
    assert locate("model.bin").read_bytes() == BODY
    assert locate("pair") == locate("model.bin").parent and (locate("pair") / "config.json").read_bytes() == b"{}"
    with pytest.raises(ModelError, match="no weights 'other'; `cyberhost weights list`"):
        locate("other")


def test_nothing_is_fetched_where_that_is_forbidden_or_needless(known, tmp_path):
    with pytest.raises(ModelError, match="model.bin is not on this machine; `cyberhost weights pull pair`"):
        locate("model.bin", download=False)
    (tmp_path / "model.bin").write_bytes(b"mine")
    assert locate("model.bin", weights_dir=tmp_path, download=False).read_bytes() == b"mine"
    assert not known.requests
    path = locate("model.bin")
    asked = len(known.requests)
    assert locate("model.bin", weights_dir=tmp_path / "empty") == path and len(known.requests) == asked


def test_plain_files_are_resumed_and_checked_too(known):
    known.faults += [Fault("/plain/", times=1, cut=15_000), Fault("/plain/", cut=0)]
    with pytest.raises(NetworkError, match="net could not be fetched"):
        locate("net")
    known.faults.clear()
    assert (locate("net") / "net.pth").read_bytes() == BODY
    assert known.gets("/plain/")[-1].range == "bytes=15000-"

    (downloads_folder() / "net" / "net.pth").unlink()
    known.faults.append(Fault("/plain/", corrupt=True))
    with pytest.raises(NetworkError, match="net.pth: what came is not the file .* removed"):
        locate("net")
    assert not list(downloads_folder().rglob("net.pth*"))
    known.faults[:] = [Fault("/plain/", status=404)]
    with pytest.raises(ModelError, match="net does not exist .404."):
        locate("net")


def test_the_licence_is_told_once(known):
    lines: list[str] = []
    with reporting(Reporter(tell=lines.append)):
        locate("net")
        locate("pair")
        (downloads_folder() / "net" / "net.pth").unlink()
        locate("net")
    assert lines == [
        f"net: research only; not for commercial use; from {known.url}/plain",
        "pair: MIT; from lab/pair@main",
    ]
