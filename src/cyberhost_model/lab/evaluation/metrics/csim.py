"""CSIM: the cosine between the face of the reference picture and that of every generated frame; mean of a video, then
of the set.

The largest face counts. Frames without a face are left out; "face_rate" says how many have one.
"""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import PerFrame, pieces
from cyberhost_model.lab.evaluation.features.people import Source, identity_source
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, VideoValue


class Csim:
    """A `VideoMetric`."""

    def __init__(self, source: Source) -> None:
        self.protocol, self.weights, self.licence = source.protocol, source.weights, source.licence
        self.needs: dict[Role, PerFrame] = {"generated": source.features, "image": source.features}

    def of_video(self, sample: Sample) -> dict[str, VideoValue]:
        wanted = np.asarray(sample.features["image"]["embeddings"][0], np.float64)
        if not np.isfinite(wanted).all():
            return {"CSIM": VideoValue(float("nan"), 0.0, reason="no face is found in the reference picture")}
        cosines = np.concatenate(
            [np.zeros(0), *(rows @ wanted for (rows,) in pieces(sample.features["generated"], "embeddings"))]
        )
        seen = np.isfinite(cosines)
        if not seen.any():
            return {"CSIM": VideoValue(float("nan"), 0.0, {"face_rate": 0.0}, "no face is found in the video")}
        rate = float(seen.mean())
        return {"CSIM": VideoValue(float(cosines[seen].mean()), rate, {"face_rate": rate}, series={"frame": cosines})}


def build(context: Context) -> Csim:
    """Raises ModelError, NetworkError or ResourceError where the networks cannot be had."""
    return Csim(identity_source(context))
