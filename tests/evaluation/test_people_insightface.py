"""Faces by insightface, with tiny graphs of the inputs and outputs of buffalo_l: they are found, and embedded as the
same files read by hand say.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("insightface")

import onnx_graphs
import own_arcface
import torch

from cyberhost_model.errors import ModelError, ResourceError
from cyberhost_model.hub.registry import REGISTRY
from cyberhost_model.lab.evaluation.metric import Context
from cyberhost_model.lab.evaluation.metrics import csim
from cyberhost_model.lab.evaluation.protocol import PROTOCOL
from cyberhost_model.perception.arcface import FILES, ArcFace
from cyberhost_model.perception.onnx_network import execution_providers, gpu_hint
from cyberhost_model.runtime.loading import load_arcface

SIZES = ((320, 480), (480, 320), (640, 640), (250, 333))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Laid out as in the registry's repository."""
    folder = tmp_path_factory.mktemp("weights") / "models" / "buffalo_l"
    folder.mkdir(parents=True)
    onnx_graphs.scrfd(folder / FILES[0])
    onnx_graphs.arcface(folder / FILES[1])
    return folder


@pytest.fixture(scope="module")
def faces(weights) -> ArcFace:
    return ArcFace(weights / FILES[0], weights / FILES[1])


def pictures() -> list[np.ndarray]:
    """Noise with one or two red squares, which the graphs take for faces."""
    rng, made = np.random.default_rng(0), []
    for number, (height, width) in enumerate(SIZES * 2):
        picture = rng.integers(0, 70, (height, width, 3)).astype(np.uint8)
        for side in (90, 50) if number % 2 else (90,):
            y, x = int(rng.integers(0, height - side)), int(rng.integers(0, width - side))
            picture[y : y + side, x : x + side, 0] = 255
            picture[y : y + side, x : x + side, 1:] //= 4
        made.append(picture)
    return made


def test_insightface_and_our_own_reading_agree(weights, faces):
    """Boxes, points and embeddings, on eight pictures of four sizes."""
    own = own_arcface.ArcFace.from_files(weights / FILES[0], weights / FILES[1])
    for picture in pictures():
        boxes, scores, points = own.detector(picture)
        theirs, their_points = faces.analysis.det_model.detect(np.ascontiguousarray(picture[..., ::-1]))
        assert len(boxes) == len(theirs) > 0
        order = [np.lexsort(np.round(b[:, :4], 2).T) for b in (boxes, theirs)]
        assert np.allclose(boxes[order[0]], theirs[order[1], :4], atol=1e-4)
        assert np.allclose(points[order[0]], their_points[order[1]], atol=1e-4)
        assert np.allclose(np.sort(scores), np.sort(theirs[:, 4]), atol=1e-4)
        assert np.allclose(own(picture[None]), faces(picture[None]), atol=1e-4)


def test_embeddings_are_of_length_one_and_missing_where_no_face_is(faces):
    frames = np.zeros((3, 320, 480, 3), np.uint8)
    frames[0, 96:144, 192:240, 0] = frames[2, 96:144, 192:240, 0] = 255
    frames[2, 110:120, 200:210, 1] = 90
    found = faces(frames)
    assert found.shape == (3, 512) and np.isnan(found[1]).all()
    assert np.allclose(np.linalg.norm(found[[0, 2]], axis=1), 1, atol=1e-5) and 0.5 < found[0] @ found[2] < 0.9999
    faces.unit = False
    long = faces.describe(frames[0])
    assert np.linalg.norm(long) > 1.1 and np.allclose(long / np.linalg.norm(long), found[0], atol=1e-6)
    faces.unit = True
    assert np.array_equal(faces.describe(frames[0]), found[0]) and not faces.describe(frames[1]).any()


def test_files_that_lie_beside_others_are_found(weights, faces, tmp_path):
    """insightface takes every square ONNX network of a folder for one of its own."""
    for name in FILES:
        (tmp_path / name).write_bytes((weights / name).read_bytes())
    onnx_graphs.yolox(tmp_path / "a_yolox.onnx")
    picture = pictures()[0]
    beside = ArcFace(tmp_path / FILES[0], tmp_path / FILES[1])
    assert np.array_equal(beside(picture[None]), faces(picture[None]))


def test_the_metric_is_built_from_a_folder_of_weights(weights):
    metric = csim.build(Context(weights_dir=weights, download=False))
    assert metric.protocol == PROTOCOL and "non-commercial" in metric.licence and set(metric.weights) == set(FILES)


def test_what_is_no_network_is_told(weights, tmp_path):
    (tmp_path / FILES[0]).write_text("not a network")
    (tmp_path / FILES[1]).write_bytes((weights / FILES[1]).read_bytes())
    with pytest.raises(ModelError, match="no networks of faces .* fetch the files again"):
        ArcFace(tmp_path / FILES[0], tmp_path / FILES[1])
    (tmp_path / FILES[0]).write_bytes((weights / FILES[1]).read_bytes())
    with pytest.raises(ModelError, match="no networks of faces"):
        ArcFace(tmp_path / FILES[0], tmp_path / FILES[1])  # two recognisers


def test_without_insightface_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "insightface", None)
    with pytest.raises(ResourceError, match=r"library insightface: pip install 'cyberhost\[face\]'"):
        load_arcface()


def test_the_cache_is_insightfaces_root():
    """The registry's files lie as insightface wants them, and nothing is fetched by insightface itself."""
    assert [file.path for file in REGISTRY["arcface"].files] == [f"models/buffalo_l/{name}" for name in FILES]


def test_networks_compute_where_the_model_does(monkeypatch):
    import onnxruntime

    gpus = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: gpus)
    assert execution_providers(torch.device("cuda", 1)) == [
        ("CUDAExecutionProvider", {"device_id": 1}),
        "CPUExecutionProvider",
    ]
    assert execution_providers("cpu") == ["CPUExecutionProvider"] and not gpu_hint("cuda")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: gpus[1:])
    assert execution_providers("cuda") == ["CPUExecutionProvider"]
    assert "pip install onnxruntime-gpu" in gpu_hint("cuda")[0] and not gpu_hint("cpu")
