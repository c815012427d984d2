"""Runs to report on: drawn people as videos, and results written by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cyberhost_model.lab.evaluation.features.people import keypoint_rows
from cyberhost_model.lab.evaluation.metric import VideoValue
from cyberhost_model.lab.evaluation.protocol import PROTOCOL, PROTOCOL_EMBEDDED
from cyberhost_model.lab.evaluation.results import (
    Evaluation,
    MetricSummary,
    Mismatch,
    Provenance,
    Results,
    VideoPaths,
    VideoRow,
)
from cyberhost_model.lab.synthetic.clips import Clip
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.keypoints import Keypoints
from data_helpers import small_synth

FPS, RATE = 25, 16000
NASTY = "<img src=x onerror=alert(1)>|*b*"


def summary(name: str, value: float | None, direction: str = "up", **others) -> MetricSummary:
    """A measure; skipped where it has no value."""
    fields = {"ci95": None, "n": 4, "coverage": 1.0, "unit": "", "decimals": 3, "protocol": PROTOCOL, **others}
    return MetricSummary(name, "skipped" if value is None else "ok", value, direction=direction, **fields)


def results(
    name: str,
    values: dict[str, Sequence[float]],
    identities: Sequence[str] = "aabb",
    names: Sequence[str] = (),
    **others,
) -> Results:
    """A run of as many videos as there are values of a measure.

    `others`: changes to the measures' summaries, by name.
    """
    count = len(next(iter(values.values())))
    names = names or [f"v{i}" for i in range(count)]
    keypoint_rows = tuple(
        VideoRow(
            names[i],
            identities[i % len(identities)],
            f"gen/{names[i]}.mp4",
            f"ref/{names[i]}.mp4",
            50,
            FPS,
            128,
            128,
            {measure: VideoValue(float(v[i])) for measure, v in values.items()},
        )
        for i in range(count)
    )
    down = ("SyncD", "AKD", "FID", "FVD")
    metrics = tuple(
        summary(
            measure,
            float(np.nanmean(v)),
            "down" if measure in down else "up",
            **{"n": int(np.isfinite(v).sum()), **others.get(measure, {})},
        )
        for measure, v in values.items()
    )
    return Results(name, metrics, keypoint_rows, (), provenance(count))


def with_metrics(run: Results, *metrics: MetricSummary) -> Results:
    """The same run with further measures."""
    return dataclasses.replace(run, metrics=(*run.metrics, *metrics))


def provenance(videos: int) -> Provenance:
    return Provenance(
        "2025-01-02T03:04:05Z",
        "cyberhost eval gen --reference ref -o out",
        "cpu",
        0,
        videos,
        videos * 50,
        videos * 2.0,
        {"cyberhost": "0.1.0", "torch": "2.13.0"},
        {"gen/v0.mp4": "0" * 64},
        {"clips": 4},
    )


def films(
    folder: Path, count: int, frames: int = 24, size: tuple[int, int] = (128, 192)
) -> tuple[dict[str, VideoPaths], dict[str, list[Keypoints]]]:
    """Ground truth and generated (a blurred copy) of drawn people; their key points."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    synth = small_synth(folder / "speech", frames, size)
    paths, points = {}, {}
    for i in range(count):
        clip: Clip = synth.clip(i)
        begin = round(clip.first / FPS * RATE)
        sound = Sound.from_samples(clip.samples[begin : begin + round(frames / FPS * RATE)], RATE)
        name = NASTY if i == 0 else f"person/{i}"
        shown = [f.picture_u8 for f in clip.frames]
        paths[name] = VideoPaths(
            write_video(
                (cv2.GaussianBlur(f, (0, 0), 1.2) for f in shown), folder / f"gen{i}.mp4", FPS, sound, overwrite=True
            ),
            write_video(shown, folder / f"ref{i}.mp4", FPS, sound, overwrite=True),
        )
        points[name] = clip.keypoints()
    return paths, points


def evaluation(folder: Path, count: int = 3, frames: int = 24, size: tuple[int, int] = (128, 192)) -> Evaluation:
    """A run with two protocols, a skipped measure, mismatches and films; numbers are drawn, not measured."""
    paths, points = films(folder, count, frames, size)
    random = np.random.default_rng(0)
    shift = np.arange(-15, 16)
    measured = []
    for i, name in enumerate(paths):
        csim = np.clip(0.6 + 0.1 * np.sin(np.arange(frames) / 9 + i) + random.normal(0, 0.02, frames), 0, 1)
        csim[4:7] = np.nan
        distance = 9 - 3 * np.exp(-((shift - i) ** 2) / 4) + random.normal(0, 0.1, 31)
        reason = "" if i else "no face track of 50 frames"
        sync = (
            {"series": {"shift": shift, "distance": distance}, "extras": {"offset": float(-i)}}
            if i
            else {"coverage": 0.0, "reason": reason}
        )
        values = {
            "SSIM": VideoValue(0.7 + 0.05 * i, series={"frame": 0.7 + 0.05 * i + random.normal(0, 0.01, frames)}),
            "PSNR": VideoValue(20.0 + i),
            "SyncC": VideoValue(3.0 + i if i else np.nan, **sync),
            "SyncD": VideoValue(9.0 - i if i else np.nan, **sync),
            "CSIM": VideoValue(float(np.nanmean(csim)), 0.95, {"face_rate": 0.95}, series={"frame": csim}),
            "HKC": VideoValue(
                0.8 - 0.1 * i, extras={"person_rate": 1.0}, series={"frame": np.full(frames, 0.8 - 0.1 * i)}
            ),
        }
        measured.append(
            VideoRow(
                name,
                f"person {i // 2}",
                str(paths[name].generated),
                str(paths[name].ground_truth),
                frames,
                FPS,
                *size,
                values,
            )
        )

    def mean(measure: str) -> float:
        return float(np.nanmean([r.values[measure].value for r in measured]))

    trend = [{"videos": v, "n": v * 4, "value": 300 + 400 / v} for v in (1, 2, 3)]
    embedded = {"protocol": PROTOCOL_EMBEDDED, "weights": {"detector.safetensors": "ab" * 32}}
    sync_weights = {"syncnet_v2.model": "cd" * 32, "sfd_face.pth": "ef" * 32}
    metrics = (
        summary("SSIM", mean("SSIM"), ci95=(0.701, 0.788), n=count),
        summary("PSNR", mean("PSNR"), ci95=(20.1, 21.9), n=count, unit="dB", decimals=2),
        summary(
            "FID",
            61.23,
            "down",
            n=count,
            decimals=2,
            extras={"floor": {"value": 12.5, "n": 30}, "n_frames": count * frames, "trend": trend, "limit": 300.0},
        ),
        summary(
            "FVD",
            None,
            "down",
            n=0,
            coverage=0.0,
            decimals=1,
            reason="i3d_pretrained_400.pt cannot be had: no network; give --weights-dir",
        ),
        summary("SyncC", mean("SyncC"), n=count - 1, coverage=(count - 1) / count, weights=sync_weights),
        summary("SyncD", mean("SyncD"), "down", n=count - 1, coverage=(count - 1) / count, weights=sync_weights),
        summary(
            "CSIM",
            mean("CSIM"),
            n=count,
            coverage=0.95,
            licence="ArcFace weights: non-commercial use only",
            extras={"face_rate": 0.95},
            **embedded,
        ),
        summary("HKC", mean("HKC"), n=count, extras={"person_rate": 1.0}, **embedded),
    )
    told = (
        Mismatch(
            "person/9",
            "missing",
            "no generated video of this name",
            "a ground truth without a generated video is left out",
        ),
        Mismatch(NASTY, "frames", f"{frames} and {frames + 2} frames", "frames are compared as far as both videos go"),
    )
    arrays = {name: keypoint_rows(people, np.ones(len(people))) for name, people in points.items()}

    def features(video, role, extractor):
        return arrays.get(video) if extractor == "dwpose" and role in ("generated", "ground_truth") else None

    return Evaluation(Results("tiny <b>", metrics, tuple(measured), told, provenance(count)), paths, features)
