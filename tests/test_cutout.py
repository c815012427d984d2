"""The person cut out: mattes, the person's own colour, another background, what does not move."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.output_form import OutputForm
from cyberhost_model.perception.matte import draw_figure, load_matte_net, person_colour, person_matte
from cyberhost_model.runtime.cutout import Cutout, fill_frame

GREEN = np.array([[[0, 177, 64]]], np.uint8)


@pytest.fixture(scope="module")
def small(picture: np.ndarray) -> np.ndarray:
    """The astronaut, uint8 (256, 256, 3)."""
    return np.asarray(Image.fromarray(picture).resize((256, 256)))


@pytest.fixture(scope="module")
def animation(host, portrait_file: Path):
    """What is saved below; its frames are made anew each time."""
    return host.animate(portrait_file, "silence:0.08", size=256, steps=1)


def test_face_and_body_are_the_person_and_what_is_behind_is_not(animation, small: np.ndarray) -> None:
    keypoints = animation.job.reference.picture_keypoints
    matte = person_matte(load_matte_net(), small, keypoints)
    assert matte.shape == (256, 256) and matte.dtype == np.float32 and 0 <= matte.min() <= matte.max() <= 1
    assert matte[60:90, 100:125].min() > 0.9, "the face"
    assert matte[190:250, 60:120].mean() > 0.95, "the suit"
    assert matte[5:60, 158:180].max() < 0.1 and matte[5:40, 60:68].max() < 0.1, "the wall"
    assert matte[:140, 190:230].max() < 0.1 and matte[:100, :40].max() < 0.1, "the rocket and the flag"
    figure = draw_figure(keypoints, (256, 256)) > 0
    assert figure[60:85, 102:120].all() and figure.mean() > 0.1 and matte[figure].mean() > 0.97


def test_the_old_background_does_not_shine_through() -> None:
    x = np.linspace(-1, 1, 128)
    share = np.clip(0.5 - 4 * (np.hypot(x[:, None], x) - 0.6), 0, 1).astype(np.float32)
    person, wall = np.array([200, 40, 30], np.float32), np.array([20, 60, 220], np.float32)
    picture = np.round(share[..., None] * person + (1 - share[..., None]) * wall).astype(np.uint8)
    edge = (share > 0.2) & (share < 0.8)
    found = np.abs(person_colour(picture, share)[edge] - person).mean()
    assert found < 6 < np.abs(picture[edge] - person).mean()


def test_what_does_not_move_keeps_the_pictures_matte(animation) -> None:
    cutout = Cutout(GREEN, animation.job.reference)
    assert cutout.matte(cutout.picture) is cutout.still
    moved = cutout.picture.copy()
    moved[60:90, 100:125] = moved[60:90, 103:128]
    far = np.abs(np.arange(256) - 112)[None] + np.abs(np.arange(256) - 75)[:, None] > 60
    assert np.array_equal(cutout.matte(moved)[far], cutout.still[far])
    assert cutout.matte(moved) is not cutout.still


def test_a_background_fills_the_frame() -> None:
    wide = np.zeros((64, 200, 3), np.uint8)
    wide[:, 68:132] = 255
    filled = fill_frame(wide, (96, 96))
    assert filled.shape == (96, 96, 3) and filled.min() > 200, "the middle of the picture"
    assert fill_frame(GREEN, (40, 20)).shape == (20, 40, 3)


def decoded(video: Path, *decoder: str) -> np.ndarray:
    command = [ffmpeg_binary(), "-nostdin", "-v", "error", *decoder, "-i", str(video)]
    raw = subprocess.run([*command, "-pix_fmt", "rgba", "-f", "rawvideo", "-"], capture_output=True, timeout=60).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, 256, 256, 4)


def test_saved_before_a_colour_and_with_alpha(host, portrait_file: Path, tmp_path: Path) -> None:
    def made():
        return host.animate(portrait_file, "silence:0.08", size=256, steps=1)

    made().save(tmp_path / "a.mp4", form=OutputForm(background="#00b140"), marks=Marks(watermark=False, c2pa=False))
    green = decoded(tmp_path / "a.mp4")[..., :3]
    assert np.abs(green[:, 8:40, 160:190].astype(int) - GREEN[0, 0]).max() < 12
    made().save(tmp_path / "a.webm", form=OutputForm(alpha=True))
    clear = decoded(tmp_path / "a.webm", "-c:v", "libvpx-vp9")
    assert len(green) == len(clear) == 2
    assert clear[:, 8:40, 160:190, 3].max() < 12 and clear[:, 62:88, 102:122, 3].min() > 240


def test_a_state_of_another_background_is_not_gone_on_with(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    forms = [
        OutputForm(),
        OutputForm(alpha=True),
        OutputForm(background="red"),
        OutputForm(background=str(tmp_path / "red.png")),
    ]
    facts = [form.facts() for form in forms]
    assert facts[0] == {} and all(facts.count(each) == 1 for each in facts)
