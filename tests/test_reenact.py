"""Reenactment, gestures with speech and talking heads: the paper's other settings."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from cyberhost_model import InputError
from cyberhost_model.conditions.pose_shift import MAPS, pose_shift
from cyberhost_model.config import GenerationConfig
from cyberhost_model.driving.sequence import PoseSequence
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.model.motion_prior import measure_pose_coverage
from cyberhost_model.perception.keypoint_detector import KeypointDetector
from cyberhost_model.perception.keypoints import Keypoints
from cyberhost_model.runtime import render as rendering
from cyberhost_model.runtime.loading import find_model
from cyberhost_model.runtime.pose_source import skeleton_source
from cyberhost_model.runtime.prepare import head_crop, shows_only_a_head
from cyberhost_model.sampler.denoise import denoise_clip
from data_helpers import voice, with_hands

EXAMPLES = Path(__file__).parents[1] / "examples"
RATE = 16000
QUICK = {"steps": 1, "size": 256}


@pytest.fixture(scope="module")
def points(host, picture) -> Keypoints:
    return host.model.detector.detect(picture)[0].keypoints


def nodding(points: Keypoints, frames: int, far: float = 0.02) -> PoseSequence:
    """Key points of the picture's person, moving up and down by `far` of its height."""
    down = [far * np.sin(2 * np.pi * i / 8) for i in range(frames)]
    return PoseSequence.of([points.map(lambda p, d=d: (p + [0, d]).astype(np.float32)) for d in down], 25.0, (512, 512))


def test_a_reenactment_lasts_as_long_as_the_driving_and_is_silent_without_sound(host, picture, points, tmp_path):
    made = host.reenact(picture, nodding(points, 14), audio=None, **QUICK)
    assert made.n_frames == 14 and made.sound is None
    assert not any("hardly follows" in line for line in made.warnings)
    out = made.save(tmp_path / "silent.mp4")
    with pytest.raises(InputError, match="holds no sound"):
        load_audio(out)


def test_another_sound_is_cut_to_the_drivings_length(host, picture, points, tmp_path):
    sound = Sound.from_samples(voice(2.0, 0), RATE)
    made = host.reenact(picture, nodding(points, 14), audio=sound, **QUICK)
    assert any("cut or followed by silence" in line for line in made.warnings)
    assert load_audio(made.save(tmp_path / "dubbed.mp4")).duration == pytest.approx(14 / 25, abs=0.03)


def test_the_driving_reaches_the_network(host, picture, points, monkeypatch):
    """Each clip gets the skeletons, shifts and mouths of its own frames, the last one repeated."""
    reference, _ = host.open_picture(picture, GenerationConfig(size=256))
    poses = nodding(points, 14, 0.05)
    driven = skeleton_source(host.model.network.preset, reference, poses)(12, 12)
    maps, shift = driven.pose, driven.shift
    assert maps.shape == (1, 12, 3, *reference.canvas.size[::-1]) and shift.shape == (1, 12, MAPS, 32, 32)
    assert not maps[0, 0].equal(maps[0, 1]) and maps[0, 1].equal(maps[0, 11])
    assert driven.control_maps.shape == (1, 12, 3, 16, 16) and not driven.control_maps[0, 0].equal(
        driven.control_maps[0, 1]
    )
    face = skeleton_source(host.model.network.preset, reference, poses, parts=("face",))(0, 12).pose
    assert 0 < (face > 0).sum() < 0.5 * (maps > 0).sum()
    videos = [
        np.stack(list(host.reenact(picture, nodding(points, 12, far), audio=None, **QUICK).frames))
        for far in (0.05, 0.0)
    ]
    assert not np.array_equal(*videos)


def test_a_small_network_without_the_pose_shift_warns(host, picture, points, monkeypatch):
    monkeypatch.setattr(host.model.network, "preset", dataclasses.replace(host.model.network.preset, pose_shift=False))
    reference, _ = host.open_picture(picture, GenerationConfig(size=256))
    assert skeleton_source(host.model.network.preset, reference, nodding(points, 14))(0, 12).shift is None
    assert any(
        "hardly follows key points" in line
        for line in host.reenact(picture, nodding(points, 14), audio=None, **QUICK).warnings
    )


def test_a_picture_follows_its_driving(host, picture, points):
    """The person in the frames moves up and down with the driving, most of the way (docs/results.md)."""
    rest, far = points, 0.04
    poses = PoseSequence.of(
        [rest.map(lambda p, d=d: (p + [0, d]).astype(np.float32)) for d in (0.0, far, -far)], 25.0, (512, 512)
    )
    still, low, high = host.reenact(picture, poses, audio=None, retarget=False, **QUICK).frames
    face = [host.model.detector.detect(f)[0].keypoints.face[:, 1].mean() for f in (still, low, high)]
    assert face[1] - face[0] > 0.6 * far and face[0] - face[2] > 0.6 * far


def test_a_driving_video_is_read_and_its_sound_kept(host, picture, tmp_path):
    """A video of the picture itself, with its sound."""
    still = picture[:480, :480]
    sound = Sound.from_samples(voice(0.6, 0), RATE)
    driving = write_video((still for _ in range(15)), tmp_path / "driving.mp4", 25, sound)
    progress = []
    made = host.reenact(picture, driving, progress=lambda done, of: progress.append(done), **QUICK)
    assert made.n_frames == 15 and progress[-1] == 15
    assert made.sound is not None and made.sound.duration == pytest.approx(0.6, abs=0.1)


def test_key_points_drive_lids_and_the_pictures_own_lips_are_measured(host, picture, points):
    reference, _ = host.open_picture(picture, GenerationConfig(size=256))
    assert 0.05 < reference.lip_gap < 0.12
    poses, preset = nodding(points, 4), host.model.network.preset
    upper, lower = [37, 38, 43, 44], [41, 40, 47, 46]
    poses.face[2, upper] = poses.face[2, lower]
    shut = skeleton_source(preset, reference, poses)(0, 4).shut[0]
    assert shut[2] == 1 and shut[[0, 1, 3]].max() < 0.3
    assert skeleton_source(preset, reference, poses, parts=("hands",))(0, 4).shut is None


def test_a_detector_that_reads_no_lips_warns(host, picture, tmp_path, monkeypatch):
    driving = write_video((picture[:480, :480] for _ in range(4)), tmp_path / "driving.mp4", 25)
    plain = KeypointDetector.from_pretrained(find_model("tiny") / "detector")
    plain.lips = None
    monkeypatch.setattr(host.model, "detector", plain)
    assert any("lips hardly move" in line for line in host.reenact(picture, driving, audio=None, **QUICK).warnings)
    assert host.open_picture(picture, GenerationConfig(size=256))[0].lip_gap == 0.0


@pytest.mark.parametrize("setting", ["reenact", "multimodal"])
def test_pose_conditions_are_on_the_device_while_the_network_is_offloaded(host, picture, points, setting, monkeypatch):
    """Pose conditions of a clip are made while the network may be on the CPU (`MemoryFallback`)."""
    if setting == "reenact":
        made = host.reenact(picture, nodding(points, 2), audio=None, **QUICK)
    else:
        made = host.multimodal(picture, Sound.from_samples(voice(0.1, 0), RATE), "wave", **QUICK)
    monkeypatch.setattr(type(host.model.network), "device", property(lambda self: torch.device("meta")))
    driven = made.job.pose_source(0, 2)
    parts = (driven.pose, driven.control_maps, *([] if driven.shift is None else [driven.shift]))
    assert [part.device.type for part in parts] == ["cpu"] * len(parts)


def test_a_gesture_moves_the_hands_and_the_speech_the_mouth(host, picture):
    sound = Sound.from_samples(voice(0.6, 0), RATE)
    made = host.multimodal(picture, sound, "wave", **QUICK)
    assert made.n_frames == 15 and made.sound is sound
    with pytest.raises(InputError, match="no such template"):
        host.multimodal(picture, sound, "waves", **QUICK)


def test_a_driving_that_cannot_be_read_is_named(host, picture, tmp_path):
    sound_alone, text = tmp_path / "sound.mp4", tmp_path / "text.mp4"
    sound_alone.write_bytes((EXAMPLES / "speech.wav").read_bytes())
    text.write_text("no video")
    for path in (sound_alone, text, tmp_path / "missing.mp4"):
        with pytest.raises(InputError, match=path.name):
            host.reenact(picture, path, **QUICK)
    nobody = write_video((np.full((96, 96, 3), 90, np.uint8) for _ in range(6)), tmp_path / "nobody.mp4", 25)
    with pytest.raises(InputError, match="nobody is found"):
        host.reenact(picture, nobody, **QUICK)


def test_a_head_alone_is_a_talking_head(host, picture, points):
    """A close crop is one, the whole picture is not; --no-head decides."""
    head, moved = head_crop(picture, points)
    assert not shows_only_a_head(points)
    x0, y0, side = 0.2, 0.08, 0.62  # so close that no shoulder is left
    close = head[int(y0 * len(head)) : int((y0 + side) * len(head)), int(x0 * len(head)) : int((x0 + side) * len(head))]
    made = host.animate(close, Sound.from_samples(voice(0.2, 0), RATE), **QUICK)
    assert any("talking head" in line for line in made.warnings)
    left = host.animate(close, Sound.from_samples(voice(0.2, 0), RATE), head=False, **QUICK)
    assert not any("talking head" in line for line in left.warnings)


def test_a_talking_head_uses_no_hand_codebook(host, picture):
    reference, _ = host.open_picture(picture, GenerationConfig(head=True, size=256))
    assert reference.conditions.regions == ("face",)


def test_pose_shift_leads_back_to_the_reference(points):
    """The shift of a person who moved right by half a cell points half a cell to the left."""
    h = w = 16
    moved = points.map(lambda p: (p + [0.5 / w, 0]).astype(np.float32))
    maps = pose_shift(points, [points, moved], (h, w))
    assert maps.shape == (2, MAPS, 2 * h, 2 * w) and not maps[0, :2].any()
    near = maps[1, 2] > 0.9
    assert near.any()
    assert np.allclose(maps[1, 0][near] / maps[1, 2][near], -4.0, atol=0.05)  # eighths of a cell
    assert np.abs(maps[1, 1]).max() < 0.05
    assert np.abs(maps[1, 3:6]).max() < 1e-3 and maps[1, 6].max() > 0.5  # the same face, and its lips are known


def test_pose_shift_tells_what_was_left(points):
    """Where the reference has a point that moved by two cells, the same shift stands, and nobody may be there now."""
    h = w = 16
    moved = points.map(lambda p: (p + [2 / w, 0]).astype(np.float32))
    maps = pose_shift(points, [moved], (h, w))[0]
    assert np.allclose(maps[7:9, :, :-4], maps[0:2, :, 4:], atol=1e-4)
    assert np.allclose(maps[9, :, :-4], maps[2, :, 4:], atol=1e-4) and maps[9].max() > 0.9
    covered = measure_pose_coverage(torch.from_numpy(maps)[None, None])[0, 0, 0]
    assert covered[torch.from_numpy(maps[9, ::2, ::2]) > 0.5].min() > 0.5


def test_lips_that_are_not_visible_have_no_shift(points):
    hidden = points.map(lambda p: p)
    hidden.face_score[48:68] = 0
    maps = pose_shift(points, [hidden], (16, 16))
    assert not maps[0, 3:7].any() and maps[0, 2].any()


def test_hands_gesture_with_the_speech_unless_they_are_left_to_the_network(host, picture):
    """What is hardly a hand, as the astronaut's cuff at the picture's edge, has no gestures."""
    cuff, _ = host.open_picture(picture, GenerationConfig(size=256))
    sound = Sound.from_samples(voice(0.4, 0), RATE)

    def poses(reference, gestures=None):
        made = host.animate_reference(reference, GenerationConfig(size=256), sound, gestures=gestures)
        return made.job.pose_source(0, 10), made.job.arms

    hand = with_hands(cuff)
    (gesture, arms), (network, none) = poses(hand), poses(hand, False)
    assert np.ptp(arms.points(0, 10)[:, :, :21, :2], axis=0).max() > 0.001 and none is None
    assert network.undriven and network.shift is None
    assert torch.equal(gesture.pose, network.pose), "the network is told of no hands that are laid over its frames"
    assert torch.equal(poses(cuff)[0].pose, network.pose) and poses(cuff)[1] is None


def test_slow_noise_only_without_key_points(host, picture, points, monkeypatch):
    slow_noises = []
    monkeypatch.setattr(
        rendering,
        "denoise_clip",
        lambda *given, slow_noise, **options: (
            slow_noises.append(slow_noise),
            denoise_clip(*given, slow_noise=slow_noise, **options),
        )[1],
    )
    sound = Sound.from_samples(voice(0.1, 0), RATE)
    made = [
        host.multimodal(picture, sound, "wave", **QUICK),
        host.reenact(picture, nodding(points, 4), audio=None, **QUICK),
    ]
    made += [host.animate(picture, sound, body_movement=amount, **QUICK) for amount in (None, 0, 1)]
    for one in made:
        list(one.frames)
    usual = host.model.network.preset.sampling.slow_noise
    assert slow_noises[1] is None  # the hands' points leave head and body to the speech
    shares = [noise.share.max().item() for noise in (slow_noises[0], *slow_noises[2:])]
    assert shares == pytest.approx([0.95 * usual, 0.95 * usual, 0, 0.9], abs=0.05)
    assert torch.equal(slow_noises[2].path, slow_noises[3].path)  # a seed gives the same movement at every amount
