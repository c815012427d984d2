"""ArcFace: a face as 512 numbers whose angles tell people apart (Deng et al., 2019), by insightface.

`insightface.app.FaceAnalysis` runs `det_10g.onnx` (SCRFD, which finds faces with five points) and `w600k_r50.onnx` of
buffalo_l. Their size of detection is a setting of its caller, and changes who is found: here it is fixed.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cyberhost_model.errors import ModelError, need
from cyberhost_model.media.files import link_or_copy
from cyberhost_model.perception.onnx_network import execution_providers, session_options

FILES = ("det_10g.onnx", "w600k_r50.onnx")
"""Names in the registry of weights (`hub`), detector and recogniser."""
ANTELOPE_FILES = ("scrfd_10g_bnkps.onnx", "glintr100.onnx")
"""The same of insightface's antelopev2, with which Hallo was trained: another recogniser, of the same inputs."""
PACKAGES = {"arcface": FILES, "antelope": ANTELOPE_FILES}
"""Models of the registry that insightface runs -> their files."""
LICENCE = "ArcFace's weights (insightface buffalo_l) are for non-commercial research only"
DIM = 512
SCRFD_SIDE = 640  # pixels of the detector's square input
_LEAST = 0.5  # score of a face


class ArcFace:
    """Embeds the largest face of each frame."""

    dim = DIM

    def __init__(self, detector: Path, recogniser: Path, device: str | torch.device = "cpu", unit: bool = True) -> None:
        """Load the files of `FILES`, or of another package of insightface.

        unit: embeddings have length 1; otherwise they are the network's own. Raises ModelError for what are no such
        networks, and ResourceError where insightface is not installed.
        """
        self.unit = unit
        self.files, self.providers = (Path(detector), Path(recogniser)), execution_providers(device)
        # For as long as this lives: insightface opens the detector again at the first picture.
        self._folders = ExitStack()
        self._root, self._name = self._folders.enter_context(_package(self.files))
        weakref.finalize(self, self._folders.close)
        self.analysis = self._open(device)

    def to(self, device: str | torch.device) -> ArcFace:
        """Compute on another device from now on, as far as onnxruntime can."""
        if execution_providers(device) != self.providers:
            self.analysis, self.providers = self._open(device), execution_providers(device)
        return self

    def _open(self, device: str | torch.device) -> Any:
        app = need("insightface.app", "face")
        try:
            found = app.FaceAnalysis(
                name=self._name,
                root=str(self._root),
                allowed_modules=["detection", "recognition"],
                providers=execution_providers(device),
                sess_options=session_options(),
            )
        except Exception as error:  # onnxruntime's own errors share no base class
            raise ModelError(
                f"{self.files[0].parent}: no networks of faces that can be run "
                f"({(str(error) or type(error).__name__).splitlines()[0][:160]}); fetch the files again"
            ) from None
        if set(found.models) != {"detection", "recognition"}:
            raise ModelError(f"{self.files[0].parent}: a detector and a recogniser of faces are expected; fetch them")
        found.prepare(ctx_id=0, det_thresh=_LEAST, det_size=(SCRFD_SIDE, SCRFD_SIDE))
        return found

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Embed uint8 (n, H, W, 3) RGB to float32 (n, 512); NaN where no face is found."""
        out = np.full((len(frames), DIM), np.nan, np.float32)
        for i, frame in enumerate(frames):
            for face in self.analysis.get(np.ascontiguousarray(frame[..., ::-1]), max_num=1, det_metric="max"):
                out[i] = face.normed_embedding if self.unit else face.embedding
        return out

    def describe(self, picture_u8: np.ndarray) -> np.ndarray:
        """Embed the largest face of uint8 (H, W, 3) RGB to float32 (512,); zeros where there is none."""
        return np.nan_to_num(self(picture_u8[None])[0])


@contextmanager
def _package(files: tuple[Path, Path]) -> Iterator[tuple[Path, str]]:
    """Give root and name by which insightface finds `files`: ROOT/models/NAME, as in the cache.

    It takes every ONNX file of that folder for one of its own, so files that lie beside others get a folder for
    themselves.
    """
    folder = files[0].parent
    if folder.parent.name == "models" and sorted(folder.glob("*.onnx")) == sorted(files):
        yield folder.parent.parent, folder.name
        return
    with tempfile.TemporaryDirectory() as made:
        inside = Path(made) / "models" / "faces"
        inside.mkdir(parents=True)
        for file in files:
            link_or_copy(file, inside / file.name)
        yield Path(made), inside.name
