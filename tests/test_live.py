"""Live sessions: sound in pieces, frames as soon as they are certain."""

from __future__ import annotations

import itertools
import threading
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch

from cyberhost_model import CyberHost, InputError
from cyberhost_model.config import GenerationConfig
from cyberhost_model.driving.speech_gesture import SpeechGestures, step_power
from cyberhost_model.media.audio import SPEECH_RATE, Resampler, Sound, load_audio
from cyberhost_model.perception.keypoints import SURE
from cyberhost_model.runtime import gestures, live
from cyberhost_model.runtime.live import LiveSession
from cyberhost_model.runtime.render import Rendering
from cyberhost_model.speech.live import LiveSpeech
from data_helpers import voice, with_hands

FAST = {"steps": 1, "size": 256}
CLIP = 12


def taken(session: LiveSession) -> list[np.ndarray]:
    return [frame for frame, _ in session.frames()]


def windows_of(host, pieces: list[np.ndarray], frames: int, **settings) -> torch.Tensor:
    """Speech windows of the first frames, taken as soon as they are certain."""
    speech = LiveSpeech(host.model.speech, 25, CLIP, 6, **settings)
    source, made = speech.windows(0), []
    for piece in pieces:
        speech.push(piece)
        while len(made) < frames and speech.reaches(len(made)):
            made += [next(source) for _ in range(CLIP)]
    return torch.stack(made)


@pytest.fixture(scope="module")
def speech(speech_file) -> np.ndarray:
    return load_audio(speech_file).mono16k()


@pytest.mark.parametrize("rate", [44_100, 48_000, 22_050, 16_000, 8_000])
def test_resampling_in_pieces_equals_the_whole(rate):
    from scipy.signal import resample_poly

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (rate // 3 + 7, 2)).astype(np.float32)
    cuts = np.sort(np.random.default_rng(1).integers(0, len(noise), 25))
    resampler = Resampler(rate, SPEECH_RATE, 0.02)
    made = [piece for block in np.split(noise, cuts) for piece in resampler.push(block)]
    in_time = sum(map(len, made))
    made += list(resampler.end())
    whole = resample_poly(noise.mean(1).astype(np.float64), SPEECH_RATE, rate) if rate != SPEECH_RATE else noise.mean(1)
    np.testing.assert_allclose(np.concatenate(made), whole, atol=1e-6)
    assert len(whole) - in_time <= 0.06 * SPEECH_RATE  # what is not certain yet is short


def test_features_do_not_depend_on_the_pieces(host, speech):
    sound = speech[: 2 * SPEECH_RATE]
    cuts = np.sort(np.random.default_rng(0).integers(0, len(sound), 40))
    whole = windows_of(host, [sound], 3 * CLIP)
    assert torch.equal(windows_of(host, np.split(sound, cuts), 3 * CLIP), whole)
    # A sample that comes more than the look-ahead later changes nothing.
    other = np.concatenate([sound[: round(0.68 * SPEECH_RATE)], -sound[::-1]])
    assert torch.equal(windows_of(host, [other], CLIP)[:CLIP], whole[:CLIP])


def test_a_whole_sound_gives_the_frames_of_animate(host, picture):
    """Shorter than a clip and its look-ahead, so that live hears no less."""
    sound = voice(0.52)
    level = host.model.speech.level([sound])
    expected = list(host.animate(picture, Sound.from_samples(sound, SPEECH_RATE), **FAST).frames)
    session = host.live(picture, level=level, **FAST)
    for piece in np.array_split(sound, 7):
        session.push(piece, SPEECH_RATE)
        assert taken(session) == []  # nothing is certain yet
    session.close()
    made = list(session.frames())
    assert [seconds for _, seconds in made] == pytest.approx([i / 25 for i in range(13)])
    assert np.abs(np.stack([f for f, _ in made]).astype(int) - np.stack(expected)).max() <= 1
    with pytest.raises(InputError, match="closed"):
        session.push(sound, SPEECH_RATE)


def test_silence_speech_and_silence_have_no_seam(host, picture, speech):
    session = host.live(picture, **FAST)
    assert session.delay == pytest.approx(0.68) and session.size == (256, 256)
    session.silence(0.48)
    session.push(np.stack([speech[:7680]] * 2, 1), SPEECH_RATE)  # two channels
    session.silence(0.68)
    frames = np.stack(taken(session)).astype(np.int16)
    assert len(frames) == 3 * CLIP
    change = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    where_clips_meet = change[CLIP - 1 :: CLIP]
    assert change.min() > 0, "it moves in silence too"
    assert where_clips_meet.max() < 2 * np.median(change) and where_clips_meet.max() < change.max() * 1.2


def test_an_interruption_drops_what_was_not_shown(host, picture, speech):
    session = host.live(picture, **FAST)
    session.push(speech[: 2 * SPEECH_RATE], SPEECH_RATE)
    source = session.frames()
    before = [next(source)[0] for _ in range(6)]
    assert session.interrupt() == pytest.approx(0.24)
    assert taken(session) == []  # the rest of the clip and of the sound are gone
    session.push(np.zeros(SPEECH_RATE, np.int16), SPEECH_RATE)
    session.close()
    after = list(session.frames())
    assert after[0][1] == pytest.approx(0.24) and after[-1][1] == pytest.approx(1.2)
    frames = np.stack([*before, *(frame for frame, _ in after)]).astype(np.int16)
    change = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert change[5] < 2 * np.median(change)


@pytest.fixture
def gesturing(host, picture, monkeypatch):
    """The astronaut with hands that are seen, and the key points that each clip is given."""
    cuff, _ = host.open_picture(picture, GenerationConfig(size=256))
    hand = with_hands(cuff)
    monkeypatch.setattr(host, "open_picture", lambda *given: (hand, []))
    made, move = [], gestures.gesturing_hands
    monkeypatch.setattr(gestures, "gesturing_hands", lambda *given: made.append(move(*given)) or made[-1])
    return made


def test_hands_gesture_live_whatever_the_clips(host, picture, speech, gesturing):
    """The same way as of the whole sound, heard 0.2 s ahead."""
    ways = {}
    for clip in (12, 8):
        session = host.live(picture, clip=clip, **FAST)
        gesturing.clear()  # of the clips that were tried before the sound
        for piece in np.array_split(speech[: 2 * SPEECH_RATE], 9):
            session.push(piece, SPEECH_RATE)
        shown = [session.job.pose_source(first, clip) for first in range(0, 33, clip)]
        assert all(pose.undriven and pose.shift is None for pose in shown), "the network is told of no hands"
        assert session.job.arms.layers.sides == (True, True)
        ways[clip] = np.concatenate([hands.hands for hands in gesturing])[:36]
        gesturing.clear()
    np.testing.assert_allclose(ways[12][:36], ways[8][:36], atol=1e-6)
    whole = SpeechGestures(25, 0, 1.0, 0.2)
    whole.hear(step_power([speech[: 2 * SPEECH_RATE]]), 0)
    network = host.model.network
    reference, _ = host.open_picture(picture)
    expected = gestures.gesturing_hands(network.preset, reference, whole.frames(0, 36), 25.0, SURE)
    np.testing.assert_allclose(ways[12], expected.hands, atol=1e-6)
    assert np.ptp(expected.hands, axis=0).max() > 0.3 / 16


def test_an_interruption_leaves_hands_no_jump(host, picture, speech, gesturing):
    session = host.live(picture, clip=8, **FAST)
    gesturing.clear()  # of the clips that were tried before the sound
    session.push(speech[: 2 * SPEECH_RATE], SPEECH_RATE)
    source = session.frames()
    for _ in range(21):
        next(source)
    before = np.concatenate([hands.hands for hands in gesturing])[:21]
    gesturing.clear()
    assert session.interrupt() == pytest.approx(0.84)
    session.silence(1.6)
    assert len(taken(session)) >= 24
    way = np.concatenate([before, *(hands.hands for hands in gesturing)])
    step = np.linalg.norm(np.diff(way.mean(2), axis=0), axis=-1)
    assert 0 < step.max() < 0.45 / 16  # of a latent cell
    assert np.abs(way[-4:] - way[:1]).mean(2).max() < 0.15 / 16 < np.abs(way - way[:1]).mean(2).max()  # they sink


def test_hands_do_not_gesture_live_where_they_are_left_to_the_network(host, picture, gesturing):
    session = host.live(picture, gestures=False, **FAST)
    assert session.job.pose_source(0, 12).shift is None and not gesturing


def test_an_interruption_before_the_first_frame(host, picture, speech):
    session = host.live(picture, **FAST)
    session.push(speech[:SPEECH_RATE], SPEECH_RATE)
    assert session.interrupt() == 0
    session.close()
    assert taken(session) == []


@pytest.mark.parametrize(
    ("sound", "rate", "words"),
    [
        (np.zeros((2, 3, 4), np.float32), 16_000, "must be"),
        (np.zeros(4, np.int64), 16_000, "int64"),
        (np.zeros(4, np.float32), 0, "whole number"),
        (np.zeros(4, np.float32), 16_000.5, "whole number"),
    ],
)
def test_sound_that_cannot_be_pushed(host, picture, sound, rate, words):
    session = host.live(picture, **FAST)
    with pytest.raises(InputError, match=words):
        session.push(sound, rate)


def test_a_low_delay(host, picture):
    session = host.live(picture, size=256, low_delay=True)
    assert session.steps == 1 and session.delay == pytest.approx(0.36)
    session = host.live(picture, size=256, low_delay=True, steps=2, clip=8, look_ahead=0.0)
    assert session.steps == 2 and session.delay == pytest.approx(0.32)


def test_a_look_ahead_out_of_bounds(host, picture):
    with pytest.raises(InputError, match="look_ahead"):
        host.live(picture, look_ahead=0.5)


@pytest.mark.parametrize(("seconds", "clip", "steps"), [(0.1, 6, 1), (0.3, 12, 2)])
def test_a_low_delay_where_the_machine_keeps_up(seconds, clip, steps, host, picture, monkeypatch):
    """seconds: a clip takes them in one step, and in two; those of a low delay last 0.24 s, others 0.48 s."""
    monkeypatch.setattr(live, "rehearse", lambda renderer, job, steps, warn: iter([seconds] * len(steps)))
    monkeypatch.setattr(live, "_paces", WeakKeyDictionary())
    session = host.live(picture, size=256, low_delay=True, keep_up=True)
    assert session.speech.clip == clip and session.steps == steps
    assert any("no low delay" in line for line in session.warnings) == (clip == 12)
    given = host.live(picture, size=256, steps=2, low_delay=True, keep_up=True)
    assert given.speech.clip == clip and given.steps == 2


@pytest.mark.parametrize(
    ("one", "each", "steps", "words"),
    [
        (0.1, 0.05, 5, None),  # seconds of a clip of 0.48 s in one step, and of each further one
        (0.2, 0.1, 3, "3 of 5 steps"),
        (0.3, 0.2, 1, "1 of 5 steps"),
        (0.6, 0.2, 1, "20.0 frames a second in one step"),
    ],
)
def test_as_many_steps_as_keep_up(one, each, steps, words, host, picture, monkeypatch):
    made = []

    def rehearse(renderer, job, steps, warn):
        for count in steps:
            made.append(count)
            yield one + each * (count - 1)

    monkeypatch.setattr(live, "rehearse", rehearse)
    monkeypatch.setattr(live, "_paces", WeakKeyDictionary())
    session = host.live(picture, size=256, steps=5, keep_up=True)
    assert made == ([1, 5] if steps == 5 else [1, 5, 1]), "no clip more than the choice needs"
    again = host.live(picture, size=256, steps=5, keep_up=True)
    assert again.steps == steps and len(made) <= 3, "another session knows it"
    told = [line for line in session.warnings if "this machine" in line]
    assert session.steps == steps and len(told) == (words is not None) and all(words in line for line in told)


def test_the_next_clips_motion_frames_are_encoded_before_its_sound(host, picture, speech, monkeypatch):
    """The frames are the same to the bit where they are not."""
    early, late = (host.live(picture, clip=6, **FAST) for _ in range(2))
    late._rendering.encode_motion = lambda latents: None
    for session in (early, late):
        session.push(speech[: round(0.44 * SPEECH_RATE)], SPEECH_RATE)
    first = [taken(session) for session in (early, late)]
    rest, encode = speech[round(0.44 * SPEECH_RATE) : round(0.68 * SPEECH_RATE)], host.model.network.motion_features
    encoded = []
    monkeypatch.setattr(host.model.network, "motion_features", lambda *given: encoded.append(1) or encode(*given))
    second = []
    for session, times in ((early, 0), (late, 1)):
        session.push(rest, SPEECH_RATE)
        second.append([next(session.frames())[0]])
        assert len(encoded) == times
        second[-1] += taken(session)
        encoded.clear()
    assert len(second[0]) == 6
    np.testing.assert_array_equal(first[0] + second[0], first[1] + second[1])


def test_a_second_thread_changes_no_frame(host, picture, speech, monkeypatch):
    """With two threads of torch frames are shared between two that have one each, also around an interruption."""
    made, decoding = [], set()
    decode = Rendering.decode

    def watched(self: Rendering, z: torch.Tensor, first: int) -> np.ndarray:
        decoding.add((threading.current_thread().name.split("_")[0], torch.get_num_threads()))
        return decode(self, z, first)

    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            session = host.live(picture, clip=6, **FAST)
            monkeypatch.setattr(Rendering, "decode", watched)
            session.push(speech[: round(0.7 * SPEECH_RATE)], SPEECH_RATE)
            frames = [frame for frame, _ in itertools.islice(session.frames(), 8)]
            session.interrupt()
            session.push(speech[: round(0.44 * SPEECH_RATE)], SPEECH_RATE)
            made.append(frames + [frame for frame, _ in session.frames()])
            monkeypatch.setattr(Rendering, "decode", decode)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert decoding == {("MainThread", 1), ("helper", 1)}
    assert len(made[0]) == 14
    difference = np.abs(np.stack(made[0]).astype(int) - np.stack(made[1]))
    assert difference.max() <= 2 and (difference > 0).mean() < 1e-3, "torch rounds so with two threads"


def test_what_is_made_once_is_made_before_the_session_is_ready(host, picture, monkeypatch):
    made = []
    monkeypatch.setattr(live, "rehearse", lambda renderer, job, steps, warn, **given: iter(made.append(steps) or []))
    session = host.live(picture, **FAST)
    assert made == [[1, 1]]
    monkeypatch.setattr(host.renderer.model.codec, "decoder", lambda *given: pytest.fail("made again"))
    session.push(voice(0.8), SPEECH_RATE)
    assert len(taken(session)) == CLIP


def test_a_pace_is_that_of_its_clips(host, picture, monkeypatch):
    """Another size, number of steps or threads is measured anew, and so is one that was measured long ago."""
    made = []

    def rehearse(renderer, job, steps, warn):
        made.append(steps)
        return iter([0.1] * len(steps))

    monkeypatch.setattr(live, "rehearse", rehearse)
    monkeypatch.setattr(live, "_paces", WeakKeyDictionary())
    for count, options in enumerate(
        [{"size": 256}, {"size": 384}, {"size": 256, "steps": 3}, {"size": 256, "fps": 20}]
    ):
        for _ in range(2):
            host.live(picture, keep_up=True, **options)
            assert len(made) == count + 1
    monkeypatch.setattr(live, "_VALID", -1.0)
    host.live(picture, keep_up=True, size=256)
    assert len(made) == 5


def test_the_pace_of_exported_steps_is_measured_after_exporting(host, picture, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is an extra: pip install 'cyberhost[onnx]'")
    pytest.importorskip("onnx", reason="onnx is an extra: pip install 'cyberhost[onnx]'")
    exported, events = CyberHost(host.model, torch.device("cpu"), torch.float32, onnx=True), []
    export, rehearse = torch.onnx.export, live.rehearse

    def noted(*given):
        for seconds in rehearse(*given):
            events.append("clip")
            yield seconds

    monkeypatch.setattr(live, "rehearse", noted)
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **named: (events.append("export"), export(*args, **named)))
    exported.live(picture, size=256, steps=1, fps=1, keep_up=True)
    assert events == ["clip", "clip", "export", "clip", "clip", "clip"]


def test_a_slow_video_keeps_its_steps(host, picture):
    """Measured on this machine: a clip of 12 s is made in less; and trying changes no frame."""
    session = host.live(picture, size=256, steps=2, fps=1, keep_up=True)
    assert session.steps == 2
    plain = host.live(picture, size=256, steps=2, fps=1)
    for each in (session, plain):
        each.push(voice(12.3), SPEECH_RATE)
    a, b = next(session.frames())[0], next(plain.frames())[0]
    assert np.array_equal(a, b)
