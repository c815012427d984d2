"""From a video file to SyncC: streamed, it is what one gets with everything in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cyberhost_model.lab.evaluation.features.extractor import VideoInfo
from cyberhost_model.lab.evaluation.features.face_track import crop_face
from cyberhost_model.lab.evaluation.features.mfcc import mfcc
from cyberhost_model.lab.evaluation.features.sync import SyncFeatures
from cyberhost_model.lab.evaluation.metric import Sample
from cyberhost_model.lab.evaluation.metrics.sync import SyncMetric
from cyberhost_model.lab.evaluation.networks.syncnet import SyncNet
from cyberhost_model.lab.filmed.sound_checks import Synchrony, measure_synchrony
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.video_reader import probe_video, read_frames
from cyberhost_model.media.video_writer import write_video

SIZE = (240, 240)
BOX = np.array([60.0, 50, 170, 180])


class Finder:
    """Finds one face, from frame `first` on. Stands for S3FD, whose weights are not here."""

    def __init__(self, first: int = 0, side: float = 1.0) -> None:
        self.first, self.side, self.seen = first, side, 0

    def __call__(self, frames: np.ndarray):
        found = []
        for _ in frames:
            boxes = BOX[None] * self.side if self.seen >= self.first else np.zeros((0, 4))
            found.append((boxes, np.ones(len(boxes))))
            self.seen += 1
        return found


@pytest.fixture(scope="module")
def net() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """64 frames at 25 a second: a light that wanders over a slope, and a humming that swells."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    lights = (90 * np.exp(-((x - 60 - 2 * t) ** 2 + (y - 110) ** 2) / 800) for t in range(64))
    frames = (np.stack([x / 2 + light, y / 2 + 20, light + 60], -1).astype(np.uint8) for light in lights)
    t = np.arange(64 * 640) / 16000
    sound = Sound.from_samples(
        (0.3 * np.sin(2 * np.pi * 180 * t) * np.sin(2 * np.pi * 1.3 * t) ** 2).astype(np.float32), 16000
    )
    return write_video(frames, tmp_path_factory.mktemp("sync") / "clip.mp4", 25, sound)


def features(finder: Finder, net: SyncNet, video: Path, sound: Path | None) -> dict[str, np.ndarray]:
    extractor = SyncFeatures(finder, net, "1")  # type: ignore[arg-type]
    extractor.begin(VideoInfo(video, 25.0, SIZE, 64, sound))
    for batch in read_frames(probe_video(video)):
        extractor.push(batch)
    return extractor.finish()


def values(found: dict[str, np.ndarray]):
    sample = Sample("clip", "somebody", 64, 25.0, {"generated": found}, None)
    return SyncMetric(SyncFeatures(Finder(), None, "1"), {}).measure_video(sample)  # type: ignore[arg-type]


def test_a_clip_of_a_dataset_is_judged_by_the_same_numbers(video, net):
    found = measure_synchrony(video, SyncFeatures(Finder(), net, ""))  # type: ignore[arg-type]
    measured = values(features(Finder(), net, video, video))["SyncC"]
    assert (
        found is not None
        and found.confidence == pytest.approx(measured.value)
        and found.offset == measured.extras["offset"]
    )
    assert measure_synchrony(video, SyncFeatures(Finder(first=30), net, "")) is None  # type: ignore[arg-type]
    assert (
        Synchrony(5.0, 2).problem(3.0) == ""
        and "early" in Synchrony(5.0, 3).problem(3.0)
        and "confidence" in Synchrony(2.9, 0).problem(3.0)
    )


def test_a_stream_gives_what_the_whole_gives(video, net):
    found = features(Finder(first=6), net, video, video)
    crops = [
        crop_face(f, np.array([115.0, 115, 65])) for batch in read_frames(probe_video(video)) for f in batch.copy()
    ][6:]
    heard = mfcc(np.concatenate(list(load_audio(video).stream_mono16k()))[6 * 640 : 64 * 640])
    windows = 58 - 5
    with torch.inference_mode():
        seen = torch.from_numpy(np.stack(crops)[..., ::-1].copy()).permute(3, 0, 1, 2)[None].float()
        some = range(0, windows, 7)
        pictures = torch.cat([net.pictures(seen[:, :, t : t + 5])[0] for t in some]).numpy()
        sounds = net.sound(
            torch.stack([torch.from_numpy(heard[4 * t : 4 * t + 20].T.copy()).float()[None] for t in range(windows)])
        )
    padded = np.pad(sounds.numpy(), ((15, 15), (0, 0)))
    expected = [
        np.linalg.norm(picture - padded[t : t + 31] + 1e-6, axis=1) for t, picture in zip(some, pictures, strict=True)
    ]
    assert found["distances"].shape == (windows, 31) and int(found["first"]) == 6 and str(found["reason"]) == ""
    assert np.allclose(found["distances"][::7], expected, atol=1e-4)
    value = values(found)["SyncC"]
    assert (
        value.coverage == pytest.approx(58 / 64)
        and value.extras["windows"] == windows
        and value.extras["face_pixels"] == 130
    )
    frame = value.series["frame"]
    assert (
        len(frame) == 64
        and np.isnan(frame[:8]).all()
        and np.isfinite(frame[8 : 8 + windows]).all()
        and np.isnan(frame[-3:]).all()
    )
    assert len(value.series["shift"]) == len(value.series["distance"]) == 31


@pytest.mark.parametrize(
    "finder, sound, reason",
    [
        (Finder(), False, "no sound"),
        (Finder(first=99), True, "no face is found"),
        (Finder(first=20), True, "no face is seen for more than 44 frames, 50 are needed"),
        (Finder(side=0.5), True, "the face is 65 pixels high, more than 100 are needed"),
    ],
)
def test_what_cannot_be_measured_is_not_a_number_and_says_why(video, net, finder, sound, reason):
    found = values(features(finder, net, video, video if sound else None))
    for name in ("SyncC", "SyncD"):
        assert np.isnan(found[name].value) and found[name].coverage == 0 and reason in found[name].reason
