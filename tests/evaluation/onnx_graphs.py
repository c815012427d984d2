"""Tiny ONNX files with the inputs and outputs of the public networks.

They are convolutions of fixed weights, so that their outputs depend on the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = list


class Graph:
    """Nodes are named by their outputs."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        self.nodes: list = []
        self.constants: list = []

    def constant(self, value) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], **options) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **options))
        return name

    def patches(self, x: str, side: int, weight: np.ndarray, bias: np.ndarray) -> str:
        """A linear map (outputs, 3) of the mean colour of each `side` x `side` patch."""
        kernel = np.repeat(np.repeat(weight[:, :, None, None], side, 2), side, 3) / side**2
        return self.node(
            "Conv",
            [x, self.constant(kernel.astype(np.float32)), self.constant(bias.astype(np.float32))],
            strides=[side, side],
        )

    def save(self, path: Path, outputs: list[tuple[str, Shape]]) -> Path:
        told = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
        model = helper.make_model(
            helper.make_graph(self.nodes, "g", self.inputs, told, self.constants),
            opset_imports=[helper.make_opsetid("", 13)],
        )
        model.ir_version = 8
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path


def yolox(path: Path) -> Path:
    """A person of 64 x 128 pixels in every cell of 32 that is red (in BGR) and not grey, as sure as it is red."""
    graph = Graph("images", [1, 3, 640, 640])
    levels = []
    for stride in (8, 16, 32):
        weight, bias = np.zeros((85, 3)), np.zeros(85)
        bias[:4] = 0.5, 0.5, np.log(64 / stride), np.log(128 / stride)
        if stride == 32:
            weight[4] = -0.5 / 255, -0.5 / 255, 1 / 255
        bias[5] = 1
        cells = graph.patches("images", stride, weight, bias)
        levels.append(
            graph.node(
                "Transpose", [graph.node("Reshape", [cells, graph.constant(np.array([1, 85, -1]))])], perm=[0, 2, 1]
            )
        )
    return graph.save(path, [(graph.node("Concat", levels, axis=1), [1, 8400, 85])])


def wholebody(path: Path) -> Path:
    """Write a graph that places points in the brightest of 18 columns and 24 rows of patches.

    Point k lies half a pixel further right than the one before; its score is the brightness.
    """
    graph = Graph("input", ["batch", 3, 384, 288])
    grey = graph.patches("input", 16, np.full((1, 3), 1 / 3), np.full(1, 2.2))  # (n, 1, 24, 18), above 0
    outputs = []
    for axis, cells, bins in ((2, 18, 576), (3, 24, 768)):
        best = graph.node("ReduceMax", [grey], axes=[axis], keepdims=0)  # (n, 1, cells)
        spread = np.zeros((133, cells, bins), np.float32)
        for k in range(133):
            for c in range(cells):
                spread[k, c, min(bins - 1, 32 * c + 16 + (k if axis == 2 else 0))] = 1
        outputs.append(
            graph.node(
                "Squeeze",
                [
                    graph.node(
                        "MatMul",
                        [graph.node("Unsqueeze", [best, graph.constant(np.array([1]))]), graph.constant(spread)],
                    ),
                    graph.constant(np.array([2])),
                ],
            )
        )
    return graph.save(path, [(outputs[0], ["batch", 133, 576]), (outputs[1], ["batch", 133, 768])])


def scrfd(path: Path) -> Path:
    """A face about every cell that is red, at all three strides, as sure as it is red; the first anchor only.

    Its box reaches about two strides around the cell's corner, more where it is green, its points lie half a stride
    around it.
    """
    graph = Graph("input.1", [1, 3, "?", "?"])
    outputs = []
    for kind, n in (("score", 1), ("box", 4), ("points", 10)):
        for stride in (8, 16, 32):
            weight, bias = np.zeros((2 * n, 3)), np.zeros(2 * n)
            if kind == "score":
                # Red is 1, blue and green count against it.
                weight[0], bias[0] = (0.5, -0.5, -0.5), -0.5
            elif kind == "box":
                bias[:], weight[:, 1] = 2, 0.5
            else:
                bias[:10] = np.array([[-0.5, -0.5], [0.5, -0.5], [0, 0], [-0.4, 0.5], [0.4, 0.5]]).ravel()
            cells = graph.patches("input.1", stride, weight, bias)
            flat = graph.node(
                "Reshape", [graph.node("Transpose", [cells], perm=[2, 3, 0, 1]), graph.constant(np.array([-1, n]))]
            )
            outputs.append((flat, [None, n]))
    return graph.save(path, outputs)


def arcface(path: Path) -> Path:
    """The mean colours of 64 patches, times a fixed matrix."""
    graph = Graph("input.1", ["None", 3, 112, 112])
    flat = graph.node("Flatten", [graph.patches("input.1", 14, np.eye(3), np.zeros(3))])
    matrix = np.random.default_rng(0).normal(size=(192, 512)).astype(np.float32)
    return graph.save(path, [(graph.node("MatMul", [flat, graph.constant(matrix)]), ["None", 512])])
