"""Dubbing: the lips of a film follow another sound, and all else stays as it was filmed."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cyberhost_cli.exit_status import ExitStatus
from cyberhost_cli.main import main
from cyberhost_model import InputError
from cyberhost_model.codecs.close_up import MOUTH
from cyberhost_model.marks.container import EDITED_SOURCE_TYPE
from cyberhost_model.marks.content_credentials import available
from cyberhost_model.marks.inspection import inspect_file
from cyberhost_model.media.audio import Sound, load_audio
from cyberhost_model.media.video_reader import probe_video, read_frames, stream_frames
from cyberhost_model.media.video_writer import write_video
from cyberhost_model.perception.detector import measure_lip_gap
from cyberhost_model.perception.mouth_cover import MouthView, StoredViews, covered_mouths
from cyberhost_model.runtime import dubbing
from cyberhost_model.runtime.dubbing import FaceTrack, Film
from data_helpers import voice

RATE = 16_000
FPS = Fraction(24)
FRAMES = 12
QUICK = {"steps": 1}


@pytest.fixture(scope="module")
def film(picture, tmp_path_factory) -> Path:
    """A camera that moves sideways over the astronaut, 24 frames a second."""
    frames = (picture[:400, i : i + 360] for i in range(FRAMES))
    return write_video(frames, tmp_path_factory.mktemp("film") / "film.mp4", float(FPS), None)


@pytest.fixture(scope="module")
def speech() -> Sound:
    return Sound.from_samples(voice(FRAMES / float(FPS), 0), RATE)


@pytest.fixture(scope="module")
def dubbed(host, film, speech):
    """The dubbing and its frames (T, H, W, 3)."""
    made = host.dub(film, speech, **QUICK)
    return made, np.stack(list(made.frames))


def test_the_film_stays_outside_the_mouths_square(host, film, dubbed):
    made, frames = dubbed
    filmed = np.stack(list(stream_frames(film, float(FPS))))
    assert made.n_frames == FRAMES and made.fps == FPS and made.size == (360, 400) and made.warnings == []
    changed = np.abs(frames.astype(int) - filmed).max((0, 3)) > 0
    face = host.model.detector.detect(filmed[0])[0].keypoints.face * [360, 400]
    corner, side = MOUTH.square(face)
    rows, columns = np.nonzero(changed)
    assert corner[1] - 3 <= rows.min() and rows.max() <= corner[1] + side + 3
    assert corner[0] - FRAMES - 3 <= columns.min() and columns.max() <= corner[0] + side + 3
    lips = face[48:60].mean(0).astype(int)
    assert np.abs(frames.astype(int) - filmed)[:, lips[1] - 8 : lips[1] + 8, lips[0] - 25 : lips[0] + 25].max() > 60


def test_more_steps_than_the_model_learnt_are_told_of(host, film, speech):
    made = host.dub(film, speech, **{**QUICK, "steps": host.model.network.preset.sampling.steps + 1})
    assert len(made.warnings) == 1 and "learnt to do with 2 steps" in made.warnings[0]


def test_silence_shuts_a_smile_and_speech_parts_the_lips(host, film, dubbed):
    def gaps(frames) -> np.ndarray:
        found = [host.model.detector.detect(frame)[0].keypoints for frame in frames]
        return np.array([measure_lip_gap(host.model.detector, person, (360, 400)) for person in found])

    silence = Sound.from_samples(np.zeros(RATE // 2), RATE)
    silent = gaps(host.dub(film, silence, **QUICK).frames)
    spoken, filmed = gaps(dubbed[1]), gaps(stream_frames(film, float(FPS)))
    assert np.median(silent) < 0.8 * np.median(filmed)  # a smile as broad as this one is not shut whole
    assert np.ptp(spoken) > 2 * np.ptp(filmed)


def test_the_film_goes_there_and_back_for_a_longer_sound(host, film, speech, monkeypatch):
    still = Film(film, FPS)
    monkeypatch.setattr(dubbing, "_BACKWARDS", 5 * 360 * 400 * 3)  # 5 frames at once
    read = list(itertools.islice(still.there_and_back(FRAMES), 2 * FRAMES))
    assert [i for i, _ in read] == [*range(FRAMES), *range(FRAMES - 2, 0, -1), 0, 1]
    forwards = list(still.frames())
    assert all(np.array_equal(frame, forwards[i]) for i, frame in read)
    longer = Sound.from_samples(np.tile(speech.samples[:, 0], 2), RATE)
    made = host.dub(film, longer, length="audio", **QUICK)
    assert made.n_frames == 2 * FRAMES and made.fits
    assert len(list(made.frames)) == 2 * FRAMES
    told = host.dub(film, longer, **QUICK)
    assert told.n_frames == FRAMES and any("the film 0.50 s" in line for line in told.warnings)


def test_a_stretch_without_a_face_stays_and_is_told(host, picture, speech, tmp_path):
    hidden = np.full((400, 360, 3), 90, np.uint8)
    frames = [picture[:400, :360] if i < 10 else hidden for i in range(30)]
    film = write_video(iter(frames), tmp_path / "hidden.mp4", 25, None)
    made = host.dub(film, speech, **QUICK)
    assert any("the face is not seen at 0.4" in line and "stays" in line for line in made.warnings)
    filmed, got = list(stream_frames(film, 25)), list(made.frames)
    assert all(np.array_equal(a, b) for a, b in zip(filmed[14:], got[14:], strict=True))
    with pytest.raises(InputError, match="no face is seen"):
        host.dub(write_video(iter([hidden] * 5), tmp_path / "nobody.mp4", 25, None), speech)


def test_shares_rise_where_a_face_comes_and_fall_where_it_goes():
    from cyberhost_model.driving.sequence import PoseSequence
    from cyberhost_model.perception.keypoints import Keypoints

    seen = np.array([False] * 5 + [True] * 20 + [False] * 5)
    nothing = Keypoints.empty()
    sequence = PoseSequence.of([nothing] * 30, 25.0, (64, 64))
    zero = np.zeros(30)
    free = np.zeros(len(seen), bool)
    track = FaceTrack(sequence, seen, zero, zero, np.zeros((64, 64, 3), np.uint8), nothing, free)
    shares = track.shares
    assert shares[5] == pytest.approx(0.2) and shares[10:20].min() == 1 and shares[24] == pytest.approx(0.2)
    assert np.all(shares[~seen] == 0) and np.all(np.diff(shares[5:10]) >= 0)
    hand = free.copy()
    hand[13:16] = True
    shares = replace(track, covered=hand).shares
    assert np.all(shares[13:16] == 0) and shares[12] == shares[16] == pytest.approx(0.2) and shares[8] == 0.8
    assert dubbing.unseen(replace(track, covered=hand | ~seen))[1:] == [
        "something is before the mouth at 0.52-0.64 s: the film stays as it is there"
    ]


HAND = (190, 150, 125)


def views_of(picture: np.ndarray, face: np.ndarray, hands: dict[int, float], count: int) -> list[MouthView | None]:
    """Views of a still face in `count` frames; hands: frame -> how far up a hand is, in heights of the picture."""
    made = []
    for i in range(count):
        frame = np.roll(picture, i % 3, 1)
        if i in hands:
            frame[round(hands[i] * len(frame)) :, 60:300] = HAND
        made.append(MouthView.of(frame, face + [i % 3, 0]))
    return made


def test_a_hand_before_the_mouth_is_noticed_and_a_chin_in_it_is_not(host, picture):
    still = picture[:400, :360]
    face = host.model.detector.detect(still)[0].keypoints.face * [360, 400]
    mouth, chin = face[48:60, 1].min() / 400, face[8, 1] / 400
    before = covered_mouths(views_of(still, face, dict.fromkeys(range(20, 30), mouth), 50), 25)
    assert np.flatnonzero(before).tolist() == list(range(20, 30))
    assert not covered_mouths(views_of(still, face, dict.fromkeys(range(20, 30), chin), 50), 25).any()
    early = covered_mouths(views_of(still, face, dict.fromkeys(range(10), mouth), 50), 25)
    assert np.flatnonzero(early).tolist() == list(range(10)), "a film may begin with it"
    stays = covered_mouths(views_of(still, face, dict.fromkeys(range(150, 290), mouth), 400), 25)
    assert stays[150:250].all() and not stays[:150].any() and not stays[300:].any()
    assert covered_mouths([None, *views_of(still, face, {}, 3), None], 25).tolist() == [False] * 5
    assert MouthView.of(still, np.zeros((68, 2))) is None


def test_views_in_a_file_are_those_that_were_given(host, picture):
    still = picture[:400, :360]
    face = host.model.detector.detect(still)[0].keypoints.face * [360, 400]
    mouth = face[48:60, 1].min() / 400
    views = [None, *views_of(still, face, dict.fromkeys(range(20, 30), mouth), 50), None]
    stored = StoredViews()
    for view in views:
        stored.append(view)
    assert len(stored) == 52 and stored[0] is None and stored[51] is None
    for a, b in zip(stored[1:51], views[1:51], strict=True):
        assert np.array_equal(a.pixels, b.pixels) and np.array_equal(a.around, b.around)
    covered = covered_mouths(views[10:], 25)
    assert covered.any() and np.array_equal(covered_mouths(stored[10:], 25), covered)


def test_the_film_stays_while_a_hand_is_before_the_mouth(host, picture, tmp_path):
    still = picture[:400, :360]
    face = host.model.detector.detect(still)[0].keypoints.face * [360, 400]
    covered = still.copy()
    covered[round(face[48:60, 1].min()) :, 60:300] = HAND
    shown = [covered if 10 <= i < 14 else still for i in range(24)]
    film = write_video(iter(shown), tmp_path / "hand.mp4", float(FPS), None)
    made = host.dub(film, Sound.from_samples(voice(1.0, 0), RATE), **QUICK)
    filmed = stream_frames(film, float(FPS))
    changed = np.array([not np.array_equal(a, b) for a, b in zip(made.frames, filmed, strict=True)])
    assert not changed[10:14].any() and changed[2:8].all() and changed[16:22].all()
    assert made.warnings[-1] == "something is before the mouth at 0.42-0.58 s: the film stays as it is there"


def test_the_second_face_from_the_left(host, picture, speech, tmp_path):
    pair = np.concatenate([picture[:400, 60:360], picture[:400, 60:360]], 1)
    film = write_video(iter([pair] * 12), tmp_path / "pair.mp4", 25, None)
    filmed = np.stack(list(stream_frames(film, 25))).astype(int)
    for face, half in ((1, slice(300, 600)), ("right", slice(0, 300))):
        frames = np.stack(list(host.dub(film, speech, face=face, **QUICK).frames))
        difference = np.abs(frames - filmed)
        assert difference[:, :, half].max() == 0 and difference.max() > 30


def test_the_command(loaded_once, film, tmp_path, capsys):
    sound, out = tmp_path / "speech.wav", tmp_path / "out.mp4"
    soundfile.write(str(sound), voice(0.5, 0), RATE)
    call = ["dub", str(film), str(sound), "-o", str(out), "--steps", "1", "--record", "--json"]
    assert main(call) == ExitStatus.OK
    told = json.loads(capsys.readouterr().out)
    assert told["frames"] == FRAMES and told["size"] == [360, 400] and told["setting"] == "dub"
    stream = probe_video(out)
    assert stream.fps == FPS and sum(len(batch) for batch in read_frames(stream)) == FRAMES
    assert load_audio(out).duration == pytest.approx(float(FRAMES / FPS), abs=0.05)
    marks = inspect_file(out)
    assert EDITED_SOURCE_TYPE in marks.tags["comment"] and "container" in marks.made
    if available():
        assert marks.credentials is not None
        assert marks.credentials.source_types == ("compositeWithTrainedAlgorithmicMedia",)
    assert main(["rerun", str(out.with_suffix(".json")), "-o", str(tmp_path / "again.mp4"), "--json"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out)["frames_equal"]


def test_what_cannot_be_dubbed_is_refused(capsys, film, tone, tmp_path):
    sound, out = str(tone()), str(tmp_path / "out.mp4")
    assert main(["dub", str(film), sound, "-o", out, "--length", "both"]) == ExitStatus.USAGE
    assert main(["dub", sound, sound, "-o", out]) == ExitStatus.INPUT
    assert main(["dub", str(film), sound, "-o", out, "--model", "hallo2"]) == ExitStatus.INPUT
    assert main(["dub", str(film), sound, "-o", str(film)]) == ExitStatus.OUTPUT
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 4 and "cannot run dub" in lines[2]
    assert not Path(out).exists()
