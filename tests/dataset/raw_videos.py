"""Raw videos with planted faults, written by the tests themselves: drawn people who speak a recorded sentence."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.synthetic.clips import Clip, ClipGenerator
from cyberhost_model.lab.synthetic.sources import People, SpeechLibrary
from cyberhost_model.media.audio import Sound
from cyberhost_model.media.video_writer import write_video

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SETTINGS = Settings(area=(256, 192), min_seconds=1.0)
SIZE = (256, 320)
FRAMES = 28
RATE = 16000
Frames = list[np.ndarray]


def speaker(number: int, frames: int = FRAMES, seed: int = 5) -> Clip:
    """A drawn person who speaks, in 256x320."""
    return ClipGenerator(People([], 1.0), SpeechLibrary([EXAMPLES]), seed, frames, sizes=(SIZE,), clean=True).clip(
        number
    )


def pictures(clip: Clip) -> Frames:
    return [f.picture_u8 for f in clip.frames]


def voice(clip: Clip) -> np.ndarray:
    """What the person says in these frames, float32 at 16 kHz."""
    start = round(clip.first / 25 * RATE)
    return clip.samples[start : start + round(len(clip.frames) / 25 * RATE)]


def write(path: Path, frames: Iterable[np.ndarray], sound: np.ndarray | None, fps: float = 25) -> Path:
    """A plain mp4."""
    return write_video(frames, path, fps, None if sound is None else Sound.from_samples(sound, RATE), overwrite=True)


def write_stamped(
    path: Path, frames: Frames, times: list[float], sound: np.ndarray | None = None, turned: int = 0
) -> Path:
    """A file whose frames carry these time stamps (seconds), in milliseconds.

    `turned`: the container's rotation, degrees.
    """
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=1000, options={"preset": "ultrafast", "crf": "16"})
        video.width, video.height, video.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = out.add_stream("aac", rate=RATE, layout="mono") if sound is not None else None
        for picture, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if audio is not None and sound is not None:
            for start in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(sound[None, start : start + 1024]), format="fltp", layout="mono"
                )
                block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
                out.mux(audio.encode(block))
            out.mux(audio.encode())
    return path


def covered(clip: Clip) -> Frames:
    """The person with a flat patch where the face is."""
    out = []
    for frame in clip.frames:
        picture = frame.picture_u8.copy()
        face = frame.keypoints.face * [picture.shape[1], picture.shape[0]]
        (x0, y0), (x1, y1) = face.min(0), face.max(0)
        grow = 0.5 * (y1 - y0)
        picture[max(0, int(y0 - grow)) : int(y1 + 0.3 * grow), max(0, int(x0 - grow)) : int(x1 + grow)] = (90, 110, 90)
        out.append(picture)
    return out


def raw_collection(folder: Path) -> dict[str, Path]:
    """Name -> file: one sound video, and one for every fault."""
    folder.mkdir(parents=True, exist_ok=True)
    first, second = speaker(1), speaker(3)
    a, b = pictures(first), pictures(second)
    say, long = voice(first), FRAMES / 25
    steps = np.random.default_rng(0).choice([0.02, 0.033, 0.05], 200)  # 20 to 50 frames a second
    times = np.concatenate([[0], np.cumsum(steps)])
    times = times[times < long]
    made = {
        "good": write(folder / "good.mp4", a, say),
        "variable": write_stamped(
            folder / "variable.mp4", [a[min(int(t * 25), FRAMES - 1)] for t in times], list(times), say
        ),
        "cuts": write(folder / "cuts.mp4", a + b + a[:8], np.concatenate([say, voice(second), say[: 8 * 640]])),
        "two": write(folder / "two.mp4", [np.concatenate(pair, 1) for pair in zip(a, b, strict=True)], say),
        "no_face": write(folder / "no_face.mp4", covered(first), say),
        "silent": write(folder / "silent.mp4", a, np.zeros_like(say)),
        "mute": write(folder / "mute.mp4", a, None),
        "noise": write(
            folder / "noise.mp4", a, (0.05 * np.random.default_rng(0).normal(size=len(say))).astype(np.float32)
        ),
        "slow": write(folder / "slow.mp4", a[::3], say, 25 / 3),
        "still": write(folder / "still.mp4", [a[0]] * FRAMES, say),
        "short": write(folder / "short.mp4", a[:10], say[: 10 * 640]),
        "head": write(folder / "head.mp4", [f[:160] for f in a], say),
    }
    whole = write(folder / "whole.mp4", a + a[::-1], np.tile(say, 2))
    data = whole.read_bytes()
    whole.unlink()
    made["truncated"] = folder / "truncated.mp4"
    made["truncated"].write_bytes(data[: len(data) * 6 // 10])
    made["text"] = folder / "text.mp4"
    made["text"].write_text("this is not a video\n" * 50)
    made["sound"] = folder / "sound.mp4"
    with av.open(str(made["sound"]), "w") as out:
        stream = out.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(say[None, :16000], format="fltp", layout="mono")
        frame.sample_rate = RATE
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return made
