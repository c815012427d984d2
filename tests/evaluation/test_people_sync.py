"""SyncC and SyncD: planted embeddings, features of the sound, the network's layout, tracks and crops of faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from eval_degradations import delay_sound

from cyberhost_model.errors import ModelError
from cyberhost_model.lab.evaluation.features.face_track import (
    CROP_SIDE,
    crop_face,
    select_track,
    smooth_squares,
    track_faces,
)
from cyberhost_model.lab.evaluation.features.mfcc import mfcc, mfcc_stream
from cyberhost_model.lab.evaluation.features.sync import confidence_curve, score_sync, shift_distances
from cyberhost_model.lab.evaluation.networks.s3fd import S3FD, FaceFinder, decode_boxes
from cyberhost_model.lab.evaluation.networks.syncnet import SyncNet, load_syncnet

T = 100


def planted(lag: int) -> tuple[np.ndarray, np.ndarray]:
    """v_t = 10 e_t, and a sound that is `lag` frames late; where it has no picture it is unlike all of them."""
    basis = 10 * np.eye(2 * T, dtype=np.float32)
    sound = basis[T:].copy()
    at = np.arange(max(0, lag), min(T, T + lag))
    sound[at] = basis[at - lag]
    return basis[:T], sound


@pytest.mark.parametrize(
    "lag, offset, confidence, distance", [(3, -3, 13.5108, 0.300), (-4, 4, 13.4108, 0.400), (0, 0, 13.8108, 0.0)]
)
def test_expected_values_of_the_protocol(lag, offset, confidence, distance):
    pictures, sound = planted(lag)
    sync = score_sync(shift_distances([pictures], [sound]))
    assert sync.offset == offset and sync.windows == T
    assert sync.confidence == pytest.approx(confidence, abs=1e-4)
    assert sync.distance == pytest.approx(distance, abs=1e-4)
    # Without the zeros at the ends the distance is that of equal embeddings, whatever the lag.
    assert sync.distance_inside == pytest.approx(0, abs=1e-4)
    assert sync.confidence_inside == pytest.approx(10 * 2**0.5, abs=1e-3)


def test_distances_do_not_depend_on_how_the_stream_is_cut():
    rng = np.random.default_rng(0)
    pictures, sound = rng.normal(size=(2, 60, 16)).astype(np.float32)
    whole = np.concatenate(list(shift_distances([pictures], [sound])))
    cut = np.concatenate(list(shift_distances(np.split(pictures, [1, 8, 40]), np.split(sound, [5, 6, 50]))))
    assert np.array_equal(whole, cut)
    padded = np.concatenate([np.zeros((15, 16)), sound, np.zeros((15, 16))])
    by_hand = np.linalg.norm(pictures[20] - padded[20:51] + 1e-6, axis=1)
    assert np.allclose(whole[20], by_hand, atol=1e-5)


def test_every_frame_of_delay_lowers_the_confidence_and_moves_the_offset():
    """A clip whose embeddings drift slowly: what is near in time is near in place."""
    rng = np.random.default_rng(1)
    path = np.cumsum(rng.normal(size=(150, 32)), 0).astype(np.float32)
    found = []
    for late in range(11):
        heard = np.roll(path, late, 0) + 0.3 * rng.normal(size=path.shape).astype(np.float32)
        found.append(score_sync(shift_distances([path[20:120]], [heard[20:120]])))
    assert [s.offset for s in found] == [-late for late in range(11)]
    # Without searching the shift: the distance where picture and sound are said to belong together grows with every
    # frame.
    at_rest = [float(s.curve[15]) for s in found]
    assert all(a < b for a, b in zip(at_rest, at_rest[1:], strict=False))


def test_a_sound_late_by_some_frames_has_that_offset(speech_file: Path):
    """Recorded speech against itself: the picture side gets the sound of its five frames, so only the delay differs."""
    samples, rate = soundfile.read(speech_file, dtype="float32")
    assert rate == 16000

    def heard(x: np.ndarray) -> np.ndarray:
        columns = mfcc(x)
        return np.stack([columns[4 * i : 4 * i + 20].ravel() for i in range((len(columns) - 20) // 4)]).astype(
            np.float32
        )

    shown = heard(samples)
    for late in range(11):
        sync = score_sync(shift_distances([shown], [heard(delay_sound(samples, late))]))
        assert sync.offset == -late
        assert late == 0 or sync.curve[15] > sync.distance


def test_a_curve_over_time_tells_where_the_sound_is_foreign():
    pictures, sound = planted(0)
    sound[60:] = -sound[60:]
    distances = np.concatenate(list(shift_distances([pictures], [sound])))
    curve = confidence_curve(distances, score_sync([distances]))
    assert curve.shape == (T,) and curve[:55].min() > curve[65:].max() + 5


def test_no_window_is_an_error():
    with pytest.raises(ValueError, match="no window"):
        score_sync([])


def test_cepstra_are_those_of_python_speech_features():
    """The numbers are what python_speech_features 0.6 gives for the same 16-bit samples."""
    t = np.arange(2000) / 16000
    x = 0.3 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 3000 * t * (1 + t))
    x[1200:] = 0
    expected = {
        0: [
            21.2081,
            0.2516,
            -3.7721,
            23.293,
            -48.5307,
            -42.3383,
            6.2454,
            -40.3845,
            -8.3488,
            38.369,
            -2.6824,
            16.906,
            29.4516,
        ],
        6: [
            20.8518,
            -4.9117,
            9.5782,
            13.844,
            -55.374,
            -21.596,
            -2.239,
            -44.578,
            13.394,
            19.9396,
            -6.4839,
            30.8679,
            7.6436,
        ],
        10: [-36.0437] + [0.0] * 12,
    }
    found = mfcc(x.astype(np.float32))
    assert found.shape == (11, 13)
    for row, numbers in expected.items():
        assert np.allclose(found[row], numbers, atol=2e-4)
    pieces = np.concatenate(list(mfcc_stream(np.split(x.astype(np.float32), [7, 700, 1400]))))
    assert np.allclose(pieces, found, atol=1e-9)


def test_syncnet_has_the_public_layout():
    torch.manual_seed(0)
    net = SyncNet().eval()
    assert sum(p.numel() for p in net.parameters()) == 13_631_616
    with torch.inference_mode():
        assert net.sound(torch.zeros(1, 1, 13, 20)).shape == (1, 1024)
        frames = torch.rand(1, 3, 6, 224, 224) * 255
        assert net.pictures(frames[:, :, :5]).flatten(1).shape == (1, 1024)  # one window: (1, 3, 5, 224, 224)
        together = net.pictures(frames)
        assert together.shape == (1, 2, 1024)
        assert torch.allclose(together[:, 1], net.pictures(frames[:, :, 1:])[:, 0], atol=1e-5)


def test_weights_must_fit_exactly(tmp_path: Path):
    state = SyncNet().state_dict()
    # The public file is older than batch norm's counters.
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.model", _use_new_zipfile_serialization=False)
    loaded = load_syncnet(tmp_path / "old.model")
    assert torch.equal(loaded.netfclip[0].weight, state["netfclip.0.weight"]) and not loaded.training
    torch.save({k: v for k, v in state.items() if k != "netfcaud.3.bias"}, tmp_path / "short.model")
    with pytest.raises(ModelError, match=r"short\.model: not the weights of SyncNet .* fetch the file again"):
        load_syncnet(tmp_path / "short.model")
    torch.save({**state, "run": Path}, tmp_path / "code.model")
    with pytest.raises(ModelError, match="holds more than tensors"):
        load_syncnet(tmp_path / "code.model")
    (tmp_path / "text.model").write_text("no weights\n")
    with pytest.raises(ModelError, match="damaged|holds more than tensors"):
        load_syncnet(tmp_path / "text.model")


def test_s3fd_decodes_planted_faces():
    """One confident anchor at the third level (16 pixels a cell), a double of it, and a face below the threshold."""
    levels = []
    for cells in (48, 24, 12, 6, 3, 2):
        offsets, logits = torch.zeros(1, 4, cells, cells), torch.zeros(1, 2, cells, cells)
        logits[:, 0] = 9
        levels.append((offsets, logits))
    offsets, logits = levels[2]
    logits[0, :, 5, 6] = torch.tensor([0.0, 6.0])
    logits[0, :, 5, 7] = torch.tensor([0.0, 4.0])
    logits[0, :, 1, 1] = torch.tensor([0.0, 1.0])
    offsets[0, :, 5, 6] = torch.tensor([1.0, -1.0, 0.0, 5 * np.log(2)])
    ((boxes, scores),) = decode_boxes(levels, 0.9)
    # centre (6.5, 5.5) * 16 + (6.4, -6.4), sides 64 and twice that
    assert np.allclose(boxes, [[78.4, 17.6, 142.4, 145.6]], atol=1e-3)
    assert scores == pytest.approx([1 / (1 + np.exp(-6))], abs=1e-6)


def test_s3fd_runs_on_small_frames(tmp_path: Path):
    torch.manual_seed(0)
    net = S3FD()
    assert len(net.state_dict()) == 65 and sum(p.numel() for p in net.parameters()) == 22_459_110
    torch.save(net.state_dict(), tmp_path / "sfd_face.pth")
    found = FaceFinder(tmp_path / "sfd_face.pth")(np.zeros((2, 256, 320, 3), np.uint8))
    assert len(found) == 2 and all(boxes.shape[1:] == (4,) and len(boxes) == len(scores) for boxes, scores in found)


def box(x: float, y: float, side: float) -> np.ndarray:
    return np.array([x, y, x + side, y + side])


def test_the_longest_large_face_is_followed_over_gaps():
    frames = []
    for t in range(120):
        found = [box(300, 40, 60)]  # long, but small
        if t < 80 and not 30 <= t < 45:
            found.insert(0, box(100 + t, 50, 120))
        frames.append(np.array(found))
    tracks = track_faces(frames, start=10)
    track = select_track(tracks)
    assert track is not None and (track.start, len(track.boxes), track.detections) == (10, 80, 65)
    assert np.allclose(track.boxes[37], box(137, 50, 120))  # a missed frame lies between those around it
    assert select_track([t for t in tracks if t is not track]) is None
    assert select_track(track_faces([np.array([box(0, 0, 150)])] * 49)) is None  # a frame too short
    assert select_track(track_faces([np.zeros((0, 4))] * 60)) is None


def test_crops_show_the_face_from_brow_to_neck():
    track = select_track(track_faces([np.array([box(60, 80, 120)])] * 60))
    assert track is not None
    square = smooth_squares(track)[30]
    assert np.allclose(square, [120, 140, 60])
    frame = np.zeros((400, 400, 3), np.uint8)
    frame[:, :, 0] = np.arange(400)[None] // 2  # red tells the column, green the row
    frame[:, :, 1] = np.arange(400)[:, None] // 2
    cut = crop_face(frame, square).astype(int)
    assert cut.shape == (CROP_SIDE, CROP_SIDE, 3)
    # Columns 120 - 84 to 120 + 84, rows 140 - 60 to 140 + 108.
    assert abs(cut[112, 0, 0] - 18) <= 1 and abs(cut[112, -1, 0] - 102) <= 1
    assert abs(cut[0, 112, 1] - 40) <= 1 and abs(cut[-1, 112, 1] - 124) <= 1
    outside = crop_face(frame, np.array([10.0, 200.0, 60.0]))
    assert (outside[:, 0] == 110).all() and not (outside[:, -1] == 110).all()


def test_late_sound_keeps_its_length():
    x = np.arange(1, 16001, dtype=np.float32)
    late, early = delay_sound(x, 3), delay_sound(x, -3)
    assert len(late) == len(early) == len(x)
    assert (late[:1920] == 0).all() and late[1920] == 1 and early[0] == 1921 and (early[-1920:] == 0).all()
