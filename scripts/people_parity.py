"""Compares the networks and the arithmetic of people in `cyberhost eval` with public code on the same inputs.

Prints a table for docs/reference/evaluation.md.

    python scripts/people_parity.py --syncnet REPOSITORY --dwpose REPOSITORY

REPOSITORY: copies of joonson/syncnet_python and IDEA-Research/DWPose. Needs an environment of its own beside the
package: `pip install python_speech_features onnx onnxruntime scikit-image`. None of the public weights is needed: the
networks get the same random numbers, and what stands around the ONNX files is compared on random graphs of the same
inputs and outputs. Their code runs here, in this check; the package never runs it.
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

from cyberhost_model.lab.evaluation.features.face_track import MIN_FACE_SIDE, MIN_TRACK_FRAMES, crop_face, track_faces
from cyberhost_model.lab.evaluation.features.mfcc import as_int16, mfcc
from cyberhost_model.lab.evaluation.features.sync import score_sync, shift_distances
from cyberhost_model.lab.evaluation.networks.s3fd import FaceFinder
from cyberhost_model.lab.evaluation.networks.syncnet import SyncNet
from cyberhost_model.media.audio import load_audio
from cyberhost_model.perception.dwpose import DWPose, to_keypoints
from cyberhost_model.perception.keypoints import Keypoints

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
Row = tuple[str, str, str, str]


def main() -> None:
    """Print the table of differences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("syncnet", "dwpose"):
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
            (given.dwpose, of_dwpose),
        ):
            for row in rows(repository, Path(folder)) if repository else ():
                show(row)


def show(row: Row) -> None:
    """Print a row of the table."""
    print("| " + " | ".join(row) + " |", flush=True)


def largest(a: Any, b: Any) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


def loaded(name: str, path: Path) -> Any:
    """Import a module of theirs from its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cepstra() -> Iterator[Row]:
    """Compare the MFCC."""
    speech = np.concatenate(list(load_audio(EXAMPLES / "speech.wav").stream_mono16k()))
    off = max(
        largest(mfcc(speech[:n]), python_speech_features.mfcc(as_int16(speech[:n]).astype(np.int16), 16000))
        for n in (300, 401, 16000, len(speech))
    )
    yield "MFCC", "python_speech_features 0.6", "`examples/speech.wav`, cut to four lengths", f"{off:.0e}"


def of_syncnet(repository: Path, folder: Path) -> Iterator[Row]:
    """Compare SyncNet, its arithmetic, its face detector and its tracks."""
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
        sync = score_sync(shift_distances(np.array_split(v.numpy(), 7), np.array_split(a.numpy(), 5)))
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
    """Compare the face detector of SyncNet."""
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
    """Compare the tracks and crops of faces.

    Their functions are part of a script that runs when imported: they are cut out of it.
    """
    start, stop = pipeline.index("def bb_intersection"), pipeline.index("# VIDEO CROP AND SAVE")
    names: dict[str, Any] = {"np": np, "interp1d": interp1d}
    exec(pipeline[start:stop], names)
    options = types.SimpleNamespace(num_failed_det=25, min_track=MIN_TRACK_FRAMES - 1, min_face_size=MIN_FACE_SIDE)
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
            for t in track_faces([np.array(f).reshape(-1, 4) for f in faces])
            if t.detections >= MIN_TRACK_FRAMES and t.side > MIN_FACE_SIDE
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
        worst = max(worst, largest(crop_face(picture, np.array([x, y, half])), cv2.resize(cut, (224, 224))))
    yield "Face crops", "syncnet_python's arithmetic", "3 squares, two across the edge", f"{worst:.0f}"


def of_dwpose(repository: Path, folder: Path) -> Iterator[Row]:
    """Compare DWPose and its person detector."""
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
    """Return points (128, 2) in DWPose's order: body, face, hands."""
    return np.concatenate([k.body, k.face, k.hands.reshape(42, 2)])


def flat_scores(k: Keypoints) -> np.ndarray:
    """Return scores (128,) in DWPose's order."""
    return np.concatenate([k.body_score, k.face_score, k.hands_score.ravel()])


def example() -> np.ndarray:
    """Return a picture of a person, RGB, 640 x 640."""
    return cv2.resize(cv2.imread(str(EXAMPLES / "astronaut.jpg"))[..., ::-1], (640, 640))


class Graph:
    """Build an ONNX graph of random convolutions; nodes are named by their outputs."""

    def __init__(self, name: str, shape: list, seed: int) -> None:
        self.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        self.nodes: list = []
        self.constants: list = []
        self.random = np.random.default_rng(seed)

    def constant(self, value: Any) -> str:
        """Add a constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], outputs: int = 1, **options: Any) -> Any:
        """Add a node, and return the name of its output, or of each of several."""
        names = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **options))
        return names[0] if outputs == 1 else names

    def patches(self, x: str, outputs: int, side: int, scale: float, bias: np.ndarray) -> str:
        """Add a linear map of each patch; zero where the patch is flat, so that a padded border has no ties."""
        weight = self.random.normal(0, scale / np.sqrt(3 * side * side), (outputs, 3, side, side))
        weight -= weight.mean((2, 3), keepdims=True)
        return self.node(
            "Conv",
            [x, self.constant(weight.astype(np.float32)), self.constant(bias.astype(np.float32))],
            strides=[side, side],
        )

    def reshaped(self, x: str, shape: list[int]) -> str:
        """Add a reshape."""
        return self.node("Reshape", [x, self.constant(np.array(shape))])

    def save(self, path: Path, outputs: list[tuple[str, list]]) -> None:
        """Write the graph with these outputs."""
        told = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
        model = helper.make_model(
            helper.make_graph(self.nodes, "g", self.inputs, told, self.constants),
            opset_imports=[helper.make_opsetid("", 13)],
        )
        model.ir_version = 8
        onnx.save(model, path)


def graph_of_people(path: Path) -> None:
    """Write a graph with the inputs and outputs of YOLOX."""
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
    """Write a graph with the inputs and outputs of the DWPose network."""
    graph = Graph("input", ["batch", 3, 384, 288], 1)
    flat_patches = graph.reshaped(graph.patches("input", 133, 16, 1.0, np.zeros(133)), [0, 133, -1])
    maps = [
        graph.node(
            "MatMul", [flat_patches, graph.constant(graph.random.normal(0, 0.2, (432, bins)).astype(np.float32))]
        )
        for bins in (576, 768)
    ]
    graph.save(path, [(m, ["batch", 133, bins]) for m, bins in zip(maps, (576, 768), strict=True)])


if __name__ == "__main__":
    main()
