"""A driving film whose sound begins after its picture, from the file to the new video."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from cyberhost_model.media.audio import load_audio
from cyberhost_model.media.ffmpeg import ffmpeg_binary


def test_a_late_sound_stays_late_in_the_new_video(host, portrait_file: Path, tone, tmp_path: Path) -> None:
    """The film is of 10 bits, as phones make them."""
    film = tmp_path / "late.mkv"
    picture = ["-loop", "1", "-framerate", "25", "-t", "0.6", "-i", str(portrait_file)]
    sound = ["-itsoffset", "0.3", "-i", str(tone(seconds=0.3))]
    encode = ["-vf", "scale=256:256", "-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le"]
    command = [ffmpeg_binary(), "-v", "error", *picture, *sound, "-map", "0:v", "-map", "1:a", *encode]
    subprocess.run([*command, "-c:a", "aac", str(film)], check=True)
    animation = host.reenact(portrait_file, film, size=256, steps=1)
    assert animation.n_frames == 15
    made = load_audio(animation.save(tmp_path / "out.mp4"))
    heard = np.abs(made.samples[:, 0])
    assert abs(int(np.argmax(heard > 0.1)) / made.rate - 0.3) < 0.03
    assert abs(made.duration - 0.6) < 0.04
