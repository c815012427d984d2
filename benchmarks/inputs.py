"""The picture and the sound that every implementation is given: the examples', cut to the job's size."""

from __future__ import annotations

import wave
from pathlib import Path

from benchmarks.sizes import Size

FPS = 25
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def write_inputs(size: Size, folder: Path) -> dict[str, str]:
    """A picture of the video's aspect, at least 256 pixels high and wide so that a face is found, and `job_frames` of
    speech at 16 kHz.
    """
    import numpy as np
    from PIL import Image, ImageOps

    from cyberhost_model.media.audio import load_audio

    h, w = size.pixels
    larger = -(-256 // min(h, w))
    ImageOps.fit(Image.open(EXAMPLES / "astronaut.jpg").convert("RGB"), (w * larger, h * larger)).save(
        folder / "picture.png"
    )
    voice = np.concatenate(list(load_audio(EXAMPLES / "speech.wav").stream_mono16k()))
    count = size.job_frames * 16000 // FPS
    with wave.open(str(folder / "speech.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes((np.resize(voice, count) * 32767).astype("<i2").tobytes())
    from cyberhost_model.media.ffmpeg import ffmpeg_binary

    return {
        "picture": str(folder / "picture.png"),
        "sound": str(folder / "speech.wav"),
        "ffmpeg": ffmpeg_binary(),
        "folder": str(folder),
    }
