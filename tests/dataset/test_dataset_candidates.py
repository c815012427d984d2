"""Stretches, frames and identities, without any video."""

import subprocess
import sys

import numpy as np
import pytest

from cyberhost_model.errors import InputError
from cyberhost_model.lab.filmed.candidates import Observation, split_shot
from cyberhost_model.lab.filmed.clip import close_gaps
from cyberhost_model.lab.filmed.framing import content_box, crop_frame, fixed_box, sizes_near
from cyberhost_model.lab.filmed.labels import mouth_from_keypoints
from cyberhost_model.lab.filmed.manifest import Reason, read_splits, split_of
from cyberhost_model.lab.filmed.prepare import Job, blank_row, list_videos
from cyberhost_model.lab.filmed.settings import Settings
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.perception.people import SIZE, count_people, face_descriptor, mean_descriptor


def looks(pattern: str) -> list[Observation]:
    """One look every 0.2 s: g good, n no face, s several people, d damaged."""
    kinds = {"g": None, "n": Reason.NO_FACE, "s": Reason.SEVERAL_PEOPLE, "d": Reason.DAMAGED}
    return [Observation(i / 5, kinds[c], Keypoints.empty() if c == "g" else None) for i, c in enumerate(pattern)]


def stretches(pattern: str, **settings) -> list[tuple[float, float, str]]:
    made = split_shot(0.0, len(pattern) / 5, looks(pattern), False, Settings(min_seconds=1.0, **settings))
    return [(round(c.start, 2), round(c.end, 2), c.reason.value if c.reason else "good") for c in made]


def test_a_fault_splits_a_shot():
    assert stretches("gggggggggnnnnngggggggg") == [(0, 1.6, "good"), (1.6, 2.8, "no_face"), (2.8, 4.4, "good")]
    assert stretches("gggggggggsssssnnnnn") == [(0, 1.6, "good"), (1.6, 2.8, "several_people"), (2.8, 3.8, "no_face")]
    assert stretches("gggnnnngggggggg") == [(0, 0.4, "too_short"), (0.4, 1.4, "no_face"), (1.4, 3.0, "good")]


def test_a_slip_of_the_detector_does_not_but_damage_does():
    assert stretches("gggggnggggg") == [(0, 2.2, "good")]
    assert [s[2] for s in stretches("ggggggdgggggg")] == ["good", "damaged", "good"]
    assert stretches("gggg") == [(0, 0.8, "cut_too_short")]


def test_short_gaps_between_frames_with_a_hand_are_closed():
    def closed(found: str, longest: int) -> str:
        return "".join("h" if x else "." for x in close_gaps([c == "h" for c in found], longest))

    assert closed("..h..h...h.", 2) == "..hhhh...h."
    assert closed("h...h", 3) == "hhhhh" and closed("h...h", 2) == "h...h"
    assert closed("....", 3) == "...." and closed("..h.", 3) == "..h."  # nothing comes of a single frame


def test_a_long_stretch_becomes_equal_clips():
    made = stretches("g" * 100, max_seconds=7.0)
    assert [s[2] for s in made] == ["good"] * 3
    assert made[0][1] == made[1][0] and made[1][1] == made[2][0] and made[-1][1] > 19.8


def test_small_faces_in_the_background_are_not_people():
    face = np.random.default_rng(0).uniform(0, 1, (68, 2)).astype(np.float32)

    def person(size: float) -> Keypoints:
        k = Keypoints.empty()
        k.face, k.face_score = face * size, np.ones(68, np.float32)
        return k

    assert count_people([]) == 0
    assert count_people([person(0.3), person(0.05)]) == 1
    assert count_people([person(0.3), person(0.2)]) == 2


def test_sizes_have_sides_of_64_and_the_area():
    for area, most in (((640, 384), 0.15), ((768, 512), 0.15), ((256, 192), 0.35)):
        sizes = sizes_near(area[0] * area[1])
        assert area in sizes and area[::-1] in sizes
        assert all(w % 64 == h % 64 == 0 and abs(w * h / (area[0] * area[1]) - 1) <= most for w, h in sizes)
    assert sizes_near(64 * 64) == [(64, 64)]


def test_a_frame_too_small_keeps_all_it_can_and_the_head():
    box, size = fixed_box((0, 0, 256, 256), (256, 256), (256, 192))
    assert box == (0, 0, 256, 256) and size[0] == size[1]
    box, size = fixed_box((100, 10, 160, 300), (256, 300), (512, 512))
    assert box[1] == 0 or box[1] == 10
    assert box[3] - box[1] > 250 and size[1] > size[0]


@pytest.mark.parametrize("crop", ["body", "head"])
def test_the_box_lies_in_the_frame_has_the_aspect_and_shows_the_face(crop):
    still = drawn_still(3, (480, 600))
    content = content_box([still.keypoints], still.size, crop)
    box, size = fixed_box(content, still.size, (256, 256))
    assert 0 <= box[0] < box[2] <= 480 and 0 <= box[1] < box[3] <= 600
    assert (box[2] - box[0]) / (box[3] - box[1]) == pytest.approx(size[0] / size[1], rel=0.02)
    face = still.keypoints.face * still.size
    assert (face > [box[0], box[1]]).all() and (face < [box[2], box[3]]).all()
    if crop == "body":
        hands = still.keypoints.hands[still.keypoints.hands_score > 0.3] * still.size
        inside = ((hands > [box[0], box[1]]) & (hands < [box[2], box[3]])).all(-1)
        assert inside.mean() > 0.95
    assert crop_frame(still.picture_u8, box, size).shape == (size[1], size[0], 3)
    with pytest.raises(ValueError, match="no face"):
        content_box([Keypoints.empty()], still.size, crop)


def test_a_descriptor_tells_drawn_faces_apart_whatever_the_light(tmp_path):
    stills = [drawn_still(i, (288, 288)) for i in range(4)]
    plain = np.stack([face_descriptor(s.picture_u8, s.keypoints) for s in stills])
    darker = np.stack([face_descriptor((s.picture_u8 * 0.6 + 20).astype(np.uint8), s.keypoints) for s in stills])
    assert plain.shape == (4, SIZE) and np.allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-3)
    assert (darker @ plain.T).argmax(1).tolist() == [0, 1, 2, 3]
    assert face_descriptor(stills[0].picture_u8, Keypoints.empty()) is None
    assert mean_descriptor([]) is None


def _jobs(root):
    for name in ("anna/1.mp4", "anna/2.mp4", "ben.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return [Job.of(path, found) for path, found in list_videos([root], root / "set").items()]


def test_identities_go_by_file_or_folder_wherever_the_data_lies(tmp_path):
    """Nobody becomes a training person because a disk is mounted elsewhere."""
    here, there = _jobs(tmp_path / "here" / "talks"), _jobs(tmp_path / "there" / "deeper" / "talks")
    for by, names in (("video", ["anna/1", "anna/2", "ben"]), ("folder", ["anna", "anna", "talks"])):
        assert [job.identity(by) for job in here] == [job.identity(by) for job in there] == names
    alone = Job.of(tmp_path / "here" / "talks" / "anna" / "1.mp4")
    assert alone.identity("video") == "1" and alone.identity("folder") == "anna"
    splits = [split_of(f"person {i}") for i in range(400)]
    assert 20 < splits.count("held_out") < 60 and splits.count("train") == 400 - splits.count("held_out")


def test_a_file_says_who_is_held_out(tmp_path):
    file = tmp_path / "splits.csv"
    file.write_text("name,split\nanna,held_out\nanna/2, train\n\nben,train\n")
    given = read_splits(file)
    assert [split_of(name, given) for name in ("anna/1", "anna/2", "ben", "anna")] == [
        "held_out",
        "train",
        "train",
        "held_out",
    ]
    assert split_of("carla", given) == split_of("carla")
    assert blank_row(_jobs(tmp_path / "talks")[0], Settings(splits=given)).split == "held_out"
    for text, words in (("anna,test", "line 1"), ("anna,train\nanna,held_out", "another split"), ("anna", "line 1")):
        file.write_text(text)
        with pytest.raises(InputError, match=words):
            read_splits(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_splits(tmp_path / "none.csv")


def test_the_mouth_is_read_from_the_points():
    still = drawn_still(2, (480, 600))
    shut, wide = still.keypoints.map(np.copy), still.keypoints.map(np.copy)
    shut.face[65:68] = shut.face[[63, 62, 61]]
    wide.face[65:68] = shut.face[65:68] + [0, 0.05]
    opening, width = mouth_from_keypoints([shut, wide, Keypoints.empty()], 480 / 600)
    assert opening[0] < 0.05 < 0.5 < opening[1] and np.isnan(opening[2])
    assert np.allclose(width[:2], 0, atol=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"crop": "feet"}, {"identity_by": "name"}, {"area": (8, 8)}, {"min_seconds": 5.0, "max_seconds": 4.0}]
)
def test_wrong_settings_are_told(wrong):
    with pytest.raises(InputError):
        Settings(**wrong)
    assert Settings().fingerprint() == Settings().fingerprint() != Settings(crop="head").fingerprint()


def test_settings_are_read_without_torch():
    code = "import sys, cyberhost_model.lab.filmed.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
