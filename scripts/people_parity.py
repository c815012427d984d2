"""Compares the networks and the arithmetic of people in `cyberhost eval` with public code on the same inputs.

Prints a table for docs/reference/evaluation.md.

    python scripts/people_parity.py --syncnet REPOSITORY --insightface REPOSITORY --dwpose REPOSITORY

REPOSITORY: copies of joonson/syncnet_python, deepinsight/insightface and IDEA-Research/DWPose. Needs an environment of
its own beside the package: `pip install python_speech_features onnx onnxruntime scikit-image`. None of the public
weights is needed: the networks get the same random numbers, and what stands around the ONNX files is compared on random
graphs of the same inputs and outputs. Their code runs here, in this check; the package never runs it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import python_speech_features
import torch
from onnx import TensorProto, helper, numpy_helper
from scipy.interpolate import interp1d

from cyberhost_model.lab.evaluation.features.face_track import LEAST_FRAMES, LEAST_SIDE, crop, follow
from cyberhost_model.lab.evaluation.features.mfcc import as_int16, mfcc
from cyberhost_model.lab.evaluation.features.sync import distance_stream, sync_of
from cyberhost_model.lab.evaluation.networks.s3fd import FaceFinder
from cyberhost_model.lab.evaluation.networks.syncnet import SyncNet
from cyberhost_model.media.audio import load_audio
from cyberhost_model.perception.arcface import ArcFace, FaceDetector, aligned
from cyberhost_model.perception.dwpose import DWPose, to_keypoints
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.perception.onnx_network import OnnxNetwork

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
Row = tuple[str, str, str, str]
Box = [[38.3, 51.7], [73.5, 51.5], [56, 71.7], [41.5, 92.4], [70.7, 92.2]]  # about where ArcFace wants the five points


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("syncnet", "insightface", "dwpose"):
        parser.add_argument(f"--{name}", type=Path, metavar="REPOSITORY")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    onnxruntime.set_default_logger_severity(3)
    print("| What | Against | Inputs | Largest difference |\n|---|---|---|---|")
    for row in cepstra():
        show(row)
    with tempfile.TemporaryDirectory() as folder:
        for repository, rows in (
            (given.syncnet, of_syncnet),
            (given.insightface, of_insightface),
            (given.dwpose, of_dwpose),
        ):
            for row in rows(repository, Path(folder)) if repository else ():
                show(row)


def show(row: Row) -> None:
    print("| " + " | ".join(row) + " |", flush=True)


def largest(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


def loaded(name: str, path: Path) -> Any:
    """A module of theirs from its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cepstra() -> Iterator[Row]:
    speech = np.concatenate(list(load_audio(EXAMPLES / "speech.wav").stream_mono16k()))
    off = max(
        largest(mfcc(speech[:n]), python_speech_features.mfcc(as_int16(speech[:n]).astype(np.int16), 16000))
        for n in (300, 401, 16000, len(speech))
    )
    yield "MFCC", "python_speech_features 0.6", "`examples/speech.wav`, cut to four lengths", f"{off:.0e}"


def of_syncnet(repository: Path, folder: Path) -> Iterator[Row]:
    sys.path.insert(0, str(repository))
    torchvision = types.ModuleType("torchvision")  # imported by S3FD's file, not used
    torchvision.transforms = types.ModuleType("transforms")  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": torchvision}
    np.int = int  # type: ignore[attr-defined]  # a name numpy has dropped
    theirs = loaded("SyncNetModel", repository / "SyncNetModel.py").S().eval()
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_(0, 0.1), layer.running_var.uniform_(0.5, 2)
    ours = SyncNet().eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        frames, sound = torch.randint(0, 256, (1, 3, 12, 224, 224)).float(), 10 * torch.randn(4, 1, 13, 20)
        expected = torch.cat([theirs.forward_lip(frames[:, :, t : t + 5]) for t in range(8)])
        yield (
            "SyncNet v2, pictures",
            "syncnet_python",
            "same random weights, 8 windows",
            f"{largest(ours.pictures(frames)[0], expected):.0e}",
        )
        yield (
            "SyncNet v2, sound",
            "syncnet_python",
            "same random weights, 4 windows",
            f"{largest(ours.sound(sound), theirs.forward_aud(sound)):.0e}",
        )
    calc_pdist = loaded("SyncNetInstance", repository / "SyncNetInstance.py").calc_pdist
    off = 0.0
    for windows in (60, 200):
        v = torch.randn(windows, 1024)
        a = torch.roll(v, 3, 0) + 0.3 * torch.randn(windows, 1024)
        mean = torch.stack(calc_pdist(v, a, vshift=15)).mean(0)
        sync = sync_of(distance_stream(np.array_split(v.numpy(), 7), np.array_split(a.numpy(), 5)))
        pairs = (
            (sync.distance, mean.min()),
            (sync.confidence, mean.median() - mean.min()),
            (sync.offset, 15 - mean.argmin()),
        )
        off = max(off, *(largest(ours, theirs) for ours, theirs in pairs))
    yield "SyncC, SyncD, offset", "syncnet_python", "random embeddings, 60 and 200 windows", f"{off:.0e}"
    yield from of_s3fd(repository, folder)
    yield from of_tracks((repository / "run_pipeline.py").read_text())


def of_s3fd(repository: Path, folder: Path) -> Iterator[Row]:
    from detectors.s3fd import S3FD  # type: ignore[import-not-found]
    from detectors.s3fd.nets import S3FDNet  # type: ignore[import-not-found]

    net = S3FDNet(device="cpu").eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
            layer.bias.data.normal_(0, 0.1)
    for heads, scale in ((net.conf, 0.06), (net.loc, 0.03)):  # some faces, of some size
        for layer in heads:
            layer.weight.data *= scale
    torch.save(net.state_dict(), folder / "sfd_face.pth")
    theirs = S3FD.__new__(S3FD)
    theirs.device, theirs.net = "cpu", net
    picture = cv2.resize(example(), (640, 360))
    count, box, score = 0, 0.0, 0.0
    for scale in (0.25, 0.5):
        for least in (0.5, 0.9):
            expected = theirs.detect_faces(picture, conf_th=least, scales=[scale])
            ((boxes, scores),) = FaceFinder(folder / "sfd_face.pth", scale=scale, least=least)(picture[None])
            assert len(expected) == len(boxes)
            count, box, score = (
                count + len(boxes),
                max(box, largest(boxes, expected[:, :4])),
                max(score, largest(scores, expected[:, 4])),
            )
    yield (
        "S3FD, boxes",
        "syncnet_python",
        f"same random weights, one picture, 4 settings, {count} boxes",
        f"{box:.0e} px (score {score:.0e})",
    )


def of_tracks(pipeline: str) -> Iterator[Row]:
    """Their functions stand in a script that runs at once: they are taken out of it."""
    start, stop = pipeline.index("def bb_intersection"), pipeline.index("# VIDEO CROP AND SAVE")
    names: dict[str, Any] = {"np": np, "interp1d": interp1d}
    exec(pipeline[start:stop], names)
    options = types.SimpleNamespace(num_failed_det=25, min_track=LEAST_FRAMES - 1, min_face_size=LEAST_SIDE)
    random, tracks, off = np.random.default_rng(1), 0, 0.0
    for _ in range(20):
        faces: list[list[np.ndarray]] = []
        a, b = np.array([50, 50, 200, 220.0]), np.array([400, 40, 560, 230.0])
        for t in range(200):
            a, b = a + random.normal(0, 2, 4), b + random.normal(0, 2, 4)
            seen = [a] * (random.random() < 0.9 and not 60 < t < 75) + [b] * (
                random.random() < 0.8 and not 100 < t < 140
            )
            random.shuffle(seen)
            faces.append(seen)
        expected = names["track_shot"](
            options, [[{"frame": t, "bbox": f.tolist()} for f in seen] for t, seen in enumerate(faces)]
        )
        found = [
            t
            for t in follow([np.array(f).reshape(-1, 4) for f in faces])
            if t.seen >= LEAST_FRAMES and t.side > LEAST_SIDE
        ]
        assert [(t.start, len(t.boxes)) for t in found] == [(t["frame"][0], len(t["frame"])) for t in expected]
        tracks, off = (
            tracks + len(found),
            max([off, *(largest(t.boxes, e["bbox"]) for t, e in zip(found, expected, strict=True))]),
        )
    yield "Face tracks", "syncnet_python", f"20 random scenes, {tracks} tracks", f"{off:.0e} px"
    picture, worst = example(), 0.0
    for x, y, half in ((300.7, 120.2, 70.3), (30, 20.5, 60), (510.2, 500, 90.9)):
        pad = int(half * 1.8)  # as in their crop_video
        padded = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), "constant", constant_values=110)
        cut = padded[
            int(y + pad - half) : int(y + pad + half * 1.8), int(x + pad - half * 1.4) : int(x + pad + half * 1.4)
        ]
        worst = max(worst, largest(crop(picture, np.array([x, y, half])), cv2.resize(cut, (224, 224))))
    yield "Face crops", "syncnet_python's arithmetic", "3 squares, two across the edge", f"{worst:.0f}"


def of_insightface(repository: Path, folder: Path) -> Iterator[Row]:
    package = next(p for p in (repository / "python-package" / "insightface", repository / "insightface") if p.is_dir())
    scrfd, align = (
        loaded("their_scrfd", package / "model_zoo" / "scrfd.py"),
        loaded("their_align", package / "utils" / "face_align.py"),
    )
    graph_of_faces(folder / "det_10g.onnx"), graph_of_embeddings(folder / "w600k_r50.onnx")
    theirs = scrfd.SCRFD(str(folder / "det_10g.onnx"))
    theirs.prepare(-1, input_size=(640, 640))
    detector, count, off = FaceDetector(OnnxNetwork(folder / "det_10g.onnx")), 0, 0.0
    for size in ((640, 384), (384, 640), (500, 500), (301, 217)):
        picture = cv2.resize(example(), size)
        expected, points = theirs.detect(np.ascontiguousarray(picture[..., ::-1]))
        boxes, scores, places = detector(picture)
        assert len(boxes) == len(expected) > 0
        count += len(boxes)
        off = max(off, largest(boxes, expected[:, :4]), largest(scores, expected[:, 4]), largest(places, points))
    yield "SCRFD, boxes and points", "insightface", f"random graph, 4 sizes, {count} faces", f"{off:.0e} px"
    random, differ, picture = np.random.default_rng(0), 0.0, example()
    network = OnnxNetwork(folder / "w600k_r50.onnx")
    session, embedding = onnxruntime.InferenceSession(str(folder / "w600k_r50.onnx")), 0.0
    for _ in range(4):
        points = (
            np.array(Box, np.float32) * random.uniform(0.8, 3)
            + random.uniform(50, 200, 2)
            + random.normal(0, 5, (5, 2))
        )
        expected, found = (
            align.norm_crop(np.ascontiguousarray(picture[..., ::-1]), points.astype(np.float32)),
            aligned(picture, points),
        )
        differ = max(differ, float((expected[..., ::-1] != found).mean()))
        assert largest(expected[..., ::-1], found) <= 1
        blob = cv2.dnn.blobFromImages([expected], 1 / 127.5, (112, 112), (127.5,) * 3, swapRB=True)
        (a,), (b,) = (
            session.run(None, {"input.1": blob}),
            network(((found[None].astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)),
        )
        embedding = max(embedding, 1 - float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)))
    yield (
        "Aligned faces",
        "insightface (scikit-image)",
        "4 random sets of points",
        f"1 of 255 in {differ:.2%} of the values",
    )
    yield "ArcFace, input to embedding", "insightface", "random graph, the same faces", f"1 - cosine {embedding:.0e}"
    assert ArcFace(detector, network)(picture[None]).shape == (1, 512)


def of_dwpose(repository: Path, folder: Path) -> Iterator[Row]:
    place = next(p for p in repository.rglob("wholebody.py") if p.parent.name == "dwpose").parent
    package = types.ModuleType("their_dwpose")
    package.__path__ = [str(place)]  # type: ignore[attr-defined]
    sys.modules["their_dwpose"] = package
    detector, pose, whole = (
        loaded(f"their_dwpose.{name}", place / f"{name}.py") for name in ("onnxdet", "onnxpose", "wholebody")
    )
    graph_of_people(folder / "yolox_l.onnx"), graph_of_points(folder / "dw-ll_ucoco_384.onnx")
    theirs = whole.Wholebody.__new__(whole.Wholebody)
    theirs.session_det, theirs.session_pose = (
        onnxruntime.InferenceSession(str(folder / n)) for n in ("yolox_l.onnx", "dw-ll_ucoco_384.onnx")
    )
    ours = DWPose.from_files(folder / "yolox_l.onnx", folder / "dw-ll_ucoco_384.onnx")
    people, box, steps, scores = 0, 0.0, [], 0.0
    for size in ((640, 384), (384, 640), (500, 500)):
        picture = cv2.resize(example(), size)
        bgr = np.ascontiguousarray(picture[..., ::-1])
        expected = detector.inference_detector(theirs.session_det, bgr)
        found, _ = ours.finder(picture)
        assert len(found) == len(expected) > 0
        people, box = people + len(found), max(box, largest(found, expected))
        places, sure = theirs(bgr)
        points, ours_sure = ours.points([picture] * len(expected), expected)
        for k, p, s in zip(
            (to_keypoints(p, s, size) for p, s in zip(points, ours_sure, strict=True)), places, sure, strict=True
        ):
            steps.append(np.abs(flat(k) * size - np.concatenate([p[:18], p[24:]])).max(1))
            scores = max(scores, largest(np.delete(flat_scores(k), 1), np.delete(np.concatenate([s[:18], s[24:]]), 1)))
    moved = np.concatenate(steps)
    yield "YOLOX, boxes of people", "DWPose", f"random graph, 3 sizes, {people} people", f"{box:.0e} px"
    yield (
        "DWPose, points",
        "DWPose",
        f"random graph, {len(moved)} points of them",
        f"{np.percentile(moved, 99):.0e} px in 99%; {(moved > 0.01).mean():.1%} take another of two equal maxima "
        f"(score {scores:.0e} of {ours_sure.max():.0f})",
    )
    assert pose.decode is not None


def flat(k: Keypoints) -> np.ndarray:
    """(128, 2) in DWPose's order: body, face, hands."""
    return np.concatenate([k.body, k.face, k.hands.reshape(42, 2)])


def flat_scores(k: Keypoints) -> np.ndarray:
    return np.concatenate([k.body_score, k.face_score, k.hands_score.ravel()])


def example() -> np.ndarray:
    """RGB, 640 x 640."""
    return cv2.resize(cv2.imread(str(EXAMPLES / "astronaut.jpg"))[..., ::-1], (640, 640))


class Graph:
    """An ONNX graph of random convolutions; nodes are named by their outputs."""

    def __init__(self, name: str, shape: list, seed: int) -> None:
        self.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        self.nodes: list = []
        self.constants: list = []
        self.random = np.random.default_rng(seed)

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], outputs: int = 1, **options: Any) -> Any:
        names = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **options))
        return names[0] if outputs == 1 else names

    def patches(self, x: str, outputs: int, side: int, scale: float, bias: np.ndarray) -> str:
        """A linear map of each patch; zero where the patch is flat, so that a filled border has no ties."""
        weight = self.random.normal(0, scale / np.sqrt(3 * side * side), (outputs, 3, side, side))
        weight -= weight.mean((2, 3), keepdims=True)
        return self.node(
            "Conv",
            [x, self.constant(weight.astype(np.float32)), self.constant(bias.astype(np.float32))],
            strides=[side, side],
        )

    def reshaped(self, x: str, shape: list[int]) -> str:
        return self.node("Reshape", [x, self.constant(np.array(shape))])

    def save(self, path: Path, outputs: list[tuple[str, list]]) -> None:
        told = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
        model = helper.make_model(
            helper.make_graph(self.nodes, "g", self.inputs, told, self.constants),
            opset_imports=[helper.make_opsetid("", 13)],
        )
        model.ir_version = 8
        onnx.save(model, path)


def graph_of_people(path: Path) -> None:
    graph = Graph("images", [1, 3, 640, 640], 0)
    x = graph.node("Mul", ["images", graph.constant(np.float32(1 / 128))])
    bias = np.concatenate([[0.5, 0.5, np.log(6), np.log(9)], np.zeros(81)])
    levels = [
        graph.node("Transpose", [graph.reshaped(graph.patches(x, 85, s, 0.6, bias), [0, 85, -1])], perm=[0, 2, 1])
        for s in (8, 16, 32)
    ]
    box, classes = graph.node(
        "Split", [graph.node("Concat", levels, axis=1), graph.constant(np.array([4, 81]))], 2, axis=2
    )
    graph.save(path, [(graph.node("Concat", [box, graph.node("Sigmoid", [classes])], axis=2), [1, 8400, 85])])


def graph_of_points(path: Path) -> None:
    graph = Graph("input", ["batch", 3, 384, 288], 1)
    flat_patches = graph.reshaped(graph.patches("input", 133, 16, 1.0, np.zeros(133)), [0, 133, -1])
    maps = [
        graph.node(
            "MatMul", [flat_patches, graph.constant(graph.random.normal(0, 0.2, (432, bins)).astype(np.float32))]
        )
        for bins in (576, 768)
    ]
    graph.save(path, [(m, ["batch", 133, bins]) for m, bins in zip(maps, (576, 768), strict=True)])


def graph_of_faces(path: Path) -> None:
    graph, outputs = Graph("input.1", [1, 3, "?", "?"], 2), []
    for n, scale, bias in ((1, 1.0, -1.0), (4, 0.3, 2.5), (10, 0.3, 0.0)):
        for stride in (8, 16, 32):
            cells = graph.node(
                "Transpose", [graph.patches("input.1", 2 * n, stride, scale, np.full(2 * n, bias))], perm=[2, 3, 0, 1]
            )
            flat_cells = graph.reshaped(cells, [-1, n])
            outputs.append((graph.node("Sigmoid", [flat_cells]) if n == 1 else flat_cells, [None, n]))
    graph.save(path, outputs)


def graph_of_embeddings(path: Path) -> None:
    graph = Graph("input.1", ["None", 3, 112, 112], 3)
    flat_patches = graph.node("Flatten", [graph.patches("input.1", 32, 14, 1.0, np.zeros(32))])
    graph.save(
        path,
        [
            (
                graph.node(
                    "MatMul",
                    [flat_patches, graph.constant(graph.random.normal(0, 0.05, (2048, 512)).astype(np.float32))],
                ),
                ["None", 512],
            )
        ],
    )


if __name__ == "__main__":
    main()
