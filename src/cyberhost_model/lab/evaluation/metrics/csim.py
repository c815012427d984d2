"""CSIM: the cosine between the face of the reference picture and that of every generated frame.

Mean over the frames of a video, then over the videos. The largest face counts. Frames without a face are left out;
"face_rate" is the share of frames that have one.
"""

from __future__ import annotations

import numpy as np

from cyberhost_model.lab.evaluation.features.extractor import PerFrame, iterate_rows
from cyberhost_model.lab.evaluation.features.people import PersonFeatures, identity_features
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, VideoValue


class Csim:
    """Measure CSIM. A `VideoMetric`."""

    def __init__(self, people: PersonFeatures) -> None:
        self.protocol, self.weights, self.licence = people.protocol, people.weights, people.licence
        self.needs: dict[Role, PerFrame] = {"generated": people.extractor, "image": people.extractor}

    def measure_video(self, sample: Sample) -> dict[str, VideoValue]:
        """Measure a video against its reference picture."""
        reference = np.asarray(sample.features["image"]["embeddings"][0], np.float64)
        if not np.isfinite(reference).all():
            return {"CSIM": VideoValue(float("nan"), 0.0, reason="no face is found in the reference picture")}
        embeddings = iterate_rows(sample.features["generated"], "embeddings")
        cosines = np.concatenate([np.zeros(0), *(rows @ reference for (rows,) in embeddings)])
        has_face = np.isfinite(cosines)
        if not has_face.any():
            return {"CSIM": VideoValue(float("nan"), 0.0, {"face_rate": 0.0}, "no face is found in the video")}
        rate = float(has_face.mean())
        mean = float(cosines[has_face].mean())
        return {"CSIM": VideoValue(mean, rate, {"face_rate": rate}, series={"frame": cosines})}


def build(context: Context) -> Csim:
    """Build the metric. Raises ModelError, NetworkError or ResourceError where the networks are not available."""
    return Csim(identity_features(context))
