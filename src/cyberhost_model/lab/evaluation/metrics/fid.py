"""FID (Heusel et al. 2017) and KID: distances of Inception features, frames of all videos pooled; and of regions.

Frames are resized to 299x299 in two ways, which give different values. `clean` (the headline; Parmar et al. 2022):
Pillow's antialiased bicubic on float. `legacy`: bilinear without antialiasing, as the code of most papers does it
(pytorch-fid). KID is of the `clean` features.

FID and KID of the face and of the hands are of crops of each video by its own points, resized as `clean`: a frame whose
hand is not found has no crop, so read them with "seen_share".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from cyberhost_model.lab.evaluation.features.extractor import RowFile, VideoInfo
from cyberhost_model.lab.evaluation.features.people import PersonFinder, person_finder
from cyberhost_model.lab.evaluation.features.regions import region_crops
from cyberhost_model.lab.evaluation.metric import Context, Role, Sample, SetValue
from cyberhost_model.lab.evaluation.metrics.frechet import Rows, set_distance
from cyberhost_model.lab.evaluation.metrics.kid import kernel_distance
from cyberhost_model.lab.evaluation.networks.frozen import inference_in_fp32
from cyberhost_model.lab.evaluation.networks.inception import SIDE, WIDTH, Inception
from cyberhost_model.lab.evaluation.protocol import PROTOCOL, PROTOCOL_REGIONS, REGIONS

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
_VERSION = 1


def resize_clean(frame: np.ndarray) -> np.ndarray:
    """Resize uint8 (H, W, 3) to float32 (3, 299, 299), 0..255: each channel as float, antialiased bicubic of Pillow."""
    channels = [
        Image.fromarray(frame[:, :, c].astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        for c in range(3)
    ]
    return np.stack([np.asarray(c) for c in channels]).clip(0, 255)


def clean_input(frames: np.ndarray) -> torch.Tensor:
    """Turn uint8 (n, H, W, 3) into the network's input (n, 3, 299, 299), resized by `resize_clean`."""
    return (torch.from_numpy(np.stack([resize_clean(f) for f in frames])) - 128) / 128


def legacy_input(frames: np.ndarray) -> torch.Tensor:
    """Turn uint8 (n, H, W, 3) into the network's input (n, 3, 299, 299): bilinear, 0..255 to -1..1."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    return 2 * F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1


INPUTS: dict[str, Callable[[np.ndarray], torch.Tensor]] = {"clean": clean_input, "legacy": legacy_input}


class InceptionFrames:
    """Extract Inception features: "clean" and "legacy", float32 (n, 2048). An `Extractor`."""

    name = "inception"
    fps = None
    uses_audio = False

    def __init__(self, network: Inception, sha256: str, device: str = "cpu") -> None:
        self.digest = f"inception/{_VERSION} {sha256}"
        self._network, self._device = network.to(device), device
        self._rows: dict[str, RowFile] = {}

    def begin(self, info: VideoInfo) -> None:
        """Start a video."""
        self._rows = {name: RowFile(WIDTH) for name in INPUTS}

    @inference_in_fp32()
    def push(self, frames: np.ndarray) -> None:
        """Read the next frames, uint8 (n, H, W, 3)."""
        for name, prepare in INPUTS.items():
            self._rows[name].add(self._network(prepare(frames).to(self._device)).cpu().numpy())

    def finish(self) -> dict[str, np.ndarray]:
        """Return the features of all frames."""
        return {name: rows.array() for name, rows in self._rows.items()}


class Fid:
    """Measure FID, FID-legacy and KID. A `SetMetric`."""

    protocol = PROTOCOL
    licence = ""

    def __init__(self, frames: InceptionFrames, sha256: str) -> None:
        self.weights = {WEIGHTS: sha256}
        self.needs: dict[Role, InceptionFrames] = {"generated": frames, "ground_truth": frames}

    def measure_set(self, samples: Sequence[Sample], seed: int) -> dict[str, SetValue]:
        """Measure a set."""

        def rows(name: str) -> Rows:
            return lambda sample, role: sample.features[role][name]

        return {
            "FID": set_distance(samples, rows("clean"), seed, "frames"),
            "FID-legacy": set_distance(samples, rows("legacy"), seed, "frames"),
            "KID": kernel_distance(samples, rows("clean"), seed, "frames"),
        }


class InceptionRegions:
    """Extract Inception features of the face and of the hands: "face", "hands", float32 (n, 2048). An `Extractor`.

    Frames without a region have no row; "frames" is the number of frames, "seen" (2,) of those with each region.
    """

    name = "inception-regions"
    fps = None
    uses_audio = False

    def __init__(self, network: Inception, sha256: str, finder: PersonFinder, device: str = "cpu") -> None:
        self.digest = f"inception-regions/{_VERSION} {sha256} {finder.digest}"
        self._network, self._finder, self._device = network.to(device), finder, device
        self._rows: dict[str, RowFile] = {}
        self._seen: dict[str, int] = {}
        self._frames = 0

    def begin(self, info: VideoInfo) -> None:
        """Start a video."""
        self._rows = {name: RowFile(WIDTH) for name in REGIONS}
        self._seen, self._frames = dict.fromkeys(REGIONS, 0), 0

    @inference_in_fp32()
    def push(self, frames: np.ndarray) -> None:
        """Read the next frames, uint8 (n, H, W, 3)."""
        self._frames += len(frames)
        for frame in frames:
            for name, crops in region_crops(frame, self._finder(frame)).items():
                self._seen[name] += bool(crops)
                for cut in crops:
                    x = clean_input(cut[None]).to(self._device)
                    self._rows[name].add(self._network(x).cpu().numpy())

    def finish(self) -> dict[str, np.ndarray]:
        """Return the features of all crops."""
        counts = {"frames": np.array(self._frames), "seen": np.array([self._seen[name] for name in REGIONS])}
        return {name: rows.array() for name, rows in self._rows.items()} | counts


class RegionFid:
    """Measure FID and KID of the face and of the hands. A `SetMetric`."""

    protocol = PROTOCOL_REGIONS
    licence = ""

    def __init__(self, crops: InceptionRegions, sha256: str) -> None:
        self.weights = {WEIGHTS: sha256}
        self.needs: dict[Role, InceptionRegions] = {"generated": crops, "ground_truth": crops}

    def measure_set(self, samples: Sequence[Sample], seed: int) -> dict[str, SetValue]:
        """Measure a set."""
        found: dict[str, SetValue] = {}
        for number, name in enumerate(REGIONS):

            def rows(sample: Sample, role: Role, name: str = name) -> np.ndarray:
                return sample.features[role][name]

            frames = sum(int(s.features["generated"]["frames"]) for s in samples)
            seen = sum(int(s.features["generated"]["seen"][number]) for s in samples)
            share = {"seen_share": seen / max(1, frames)}
            for measure, of in ((f"FID-{name}", set_distance), (f"KID-{name}", kernel_distance)):
                value = of(samples, rows, seed, "crops")
                found[measure] = replace(value, extras={**value.extras, **share})
        return found


def inception(context: Context) -> tuple[Inception, str]:
    """Load the network and the digest of its weights, once a run. Raises ModelError or NetworkError without them."""

    def load() -> tuple[Inception, str]:
        weights = context.weights(WEIGHTS)
        return Inception.from_file(weights.path), weights.sha256

    return context.shared("inception", load)


def build(context: Context) -> Fid:
    """Build the metric. Raises ModelError or NetworkError where the weights are not available."""
    network, sha256 = inception(context)
    return Fid(InceptionFrames(network, sha256, context.device), sha256)


def build_regions(context: Context) -> RegionFid:
    """Build the metric of face and hands. Raises what `build` raises."""
    network, sha256 = inception(context)
    return RegionFid(InceptionRegions(network, sha256, person_finder(context), context.device), sha256)
