"""The gap of the lips: mouths cut out, points moved, the reader inside the key point detector, and the stage that
trains it.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cyberhost_cli.main import main
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.filmed.labels import mouth_from_keypoints
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.lab.training.assemble import assemble
from cyberhost_model.lab.training.stages.lips import (
    LipSamples,
    LipsStage,
    Mouth,
    cut_mouth,
    detector_crop,
    puppet_mouths,
)
from cyberhost_model.perception.detector import WholeBodyDetector, measure_lip_gap
from cyberhost_model.perception.face_controls import lips_gap
from cyberhost_model.perception.geometry import face_height
from cyberhost_model.perception.keypoint_detector import LIPS_FROM, KeypointDetector
from cyberhost_model.perception.keypoints import LIPS
from cyberhost_model.perception.lip_reader import LipReader, crop_mouth, set_lip_gap
from cyberhost_model.runtime.loading import find_model
from test_assemble import run_of
from training_measures import evaluate_lip_reader


@pytest.fixture(scope="module")
def reader() -> LipReader:
    torch.manual_seed(0)
    return LipReader().eval()


@pytest.fixture(scope="module")
def person() -> Still:
    """A drawn person whose lips meet."""
    return drawn_still(3008, (256, 256))


@pytest.fixture(scope="module")
def detector() -> KeypointDetector:
    return KeypointDetector.from_pretrained(find_model("tiny") / "detector")


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return np.asarray(Image.open(Path(__file__).parents[1] / "examples/astronaut.jpg").convert("RGB"))


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return (points @ np.array([[c, s], [-s, c]])).astype(np.float32)


def test_a_mouths_number_is_its_own(reader):
    assert sum(p.numel() for p in reader.parameters()) < 60_000
    crops = torch.randint(0, 255, (5, 48, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        gaps = reader(crops)
        assert gaps.shape == (5,) and torch.allclose(gaps[3:4], reader(crops[3:4]), atol=1e-6)
        assert torch.allclose(gaps, reader(crops // 2), atol=5e-3)  # half the light


def test_crops_are_upright_and_of_one_size(person):
    face = person.keypoints.face * person.size
    upright = crop_mouth(person.picture_u8, face)
    assert upright.shape == (48, 64, 3) and upright.dtype == np.uint8
    aside = np.ascontiguousarray(np.rot90(person.picture_u8, -1))  # clockwise: (x, y) -> (H - y, x)
    moved = np.stack([person.picture_u8.shape[0] - face[:, 1], face[:, 0]], 1)
    assert np.abs(crop_mouth(aside, moved).astype(float) - upright).mean() < 6
    twice = np.asarray(Image.fromarray(person.picture_u8).resize((512, 512), Image.Resampling.BICUBIC))
    assert np.abs(crop_mouth(twice, face * 2).astype(float) - upright).mean() < 4
    assert crop_mouth(person.picture_u8, face + 1000).shape == (48, 64, 3)  # outside the picture


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2])
@pytest.mark.parametrize("gap", [0.0, 0.03, 0.1])
def test_inner_lips_are_put_as_far_apart_as_said(person, angle, gap):
    face = turned(person.keypoints.face * person.size, angle)
    before = face.copy()
    moved = set_lip_gap(face, gap)
    assert np.array_equal(face, before) and lips_gap(moved) == pytest.approx(gap, abs=1e-5)
    assert np.array_equal(np.delete(moved, range(49, 68), 0), np.delete(face, range(49, 68), 0)) and np.array_equal(
        moved[[60, 64]], face[[60, 64]]
    )
    back = turned(moved, -angle)
    for above, high, low, below in ((50, 61, 67, 58), (51, 62, 66, 57), (52, 63, 65, 56)):
        assert back[above, 1] < back[high, 1] <= back[low, 1] + 1e-3 and back[low, 1] < back[below, 1]
    assert lips_gap(set_lip_gap(face, -0.02)) == pytest.approx(0, abs=1e-5)


def test_a_detector_without_a_reader_is_as_before(detector, astronaut, tmp_path):
    plain = KeypointDetector(norm=False)
    plain.load_state_dict({k: v for k, v in detector.state_dict().items() if not k.startswith("lips.")})
    plain.save_pretrained(tmp_path)
    assert not any(k.startswith("lips.") for k in load_file(tmp_path / "model.safetensors"))
    plain = KeypointDetector.from_pretrained(tmp_path)
    assert plain.lips is None and not plain.reads_lips and detector.reads_lips
    one, other = (d.detect(astronaut)[0].keypoints for d in (plain, detector))
    lips = np.isin(np.arange(68), range(49, 68))
    assert np.array_equal(one.face[~lips], other.face[~lips]) and not np.array_equal(one.face[lips], other.face[lips])
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("body", "hands", "face_score"))
    assert measure_lip_gap(plain, one, (512, 512)) == 0.0


def test_a_smile_is_open_and_shut_lips_are_not(detector, astronaut):
    found = detector.detect(astronaut)[0].keypoints
    assert 0.05 < lips_gap(found.face * 512) < 0.12 and measure_lip_gap(detector, found, (512, 512)) == pytest.approx(
        lips_gap(found.face * 512)
    )
    followed = detector.follow(astronaut, found)
    assert followed is not None and lips_gap(followed.keypoints.face * 512) == pytest.approx(
        lips_gap(found.face * 512), abs=0.02
    )
    for seed in (3008, 3011):
        shut = drawn_still(seed, (384, 384))
        k = detector.detect(shut.picture_u8)[0].keypoints
        assert abs(lips_gap(k.face * 384)) < 0.01 and measure_lip_gap(detector, k, (384, 384)) == 0.0


def test_lips_of_small_faces_stay_where_they_are(detector, astronaut):
    small = np.asarray(Image.fromarray(astronaut).resize((120, 120), Image.Resampling.LANCZOS))
    found = detector.detect(small)[0].keypoints
    assert face_height(found.face * 120) < LIPS_FROM and measure_lip_gap(detector, found, (120, 120)) == 0.0
    assert found.face_score[LIPS].max() == 0 < found.face_score[:48].min()  # so that nobody takes them for read
    opening, width = mouth_from_keypoints([found], 1.0)
    assert np.isnan(opening).all() and np.isnan(width).all()
    raw, _ = detector.face_points(small, found.face.mean(0) * 120, float(np.ptp(found.face * 120, axis=0).max()))
    assert lips_gap(raw) == pytest.approx(lips_gap(found.face * 120), abs=0.02)


def test_other_detectors_lips_are_taken_as_they_are(person):
    k = person.keypoints
    k = k.map(lambda p: p)
    k.face = set_lip_gap(k.face * person.size, 0.06) / person.size
    assert measure_lip_gap(WholeBodyDetector(), k, person.size) == pytest.approx(0.06, abs=1e-4)


def test_mouths_of_puppets_open_and_batches_repeat(person):
    rng = np.random.default_rng(0)
    mouths = puppet_mouths(person, 6, rng)
    gaps = [m.gap for m in mouths]
    assert (
        all(m.patch.shape == (128, 128, 3) and m.patch.dtype == np.uint8 for m in mouths)
        and max(gaps) > min(gaps) + 0.02
    )
    one, two = (LipSamples([mouths, []], [0.5, 0.5], 3, 4)[2] for _ in range(2))
    assert (
        one["crops"].shape == (4, 48, 64, 3)
        and torch.equal(one["crops"], two["crops"])
        and torch.equal(one["gap"], two["gap"])
    )
    assert not torch.equal(one["crops"], LipSamples([mouths], [1.0], 3, 4)[1]["crops"])
    assert all(detector_crop(rng, Mouth(m.patch, m.gap)).shape == (48, 64, 3) for m in mouths)


def test_the_stage_learns_to_tell_open_from_shut():
    torch.manual_seed(0)
    people = [drawn_still(seed, (160, 160)) for seed in (3001, 3008, 3011, 3015)]
    stage = LipsStage(people[:2], people[2:], puppets=1, batch=16)
    data, optimizer = stage.dataset(1), torch.optim.AdamW(stage.module.parameters(), lr=3e-3)
    history = []
    for i in range(40):
        losses = stage.loss(data[i], torch.Generator())
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append(float(losses["off"].detach()))
    assert np.mean(history[-8:]) < 0.8 * np.mean(history[:4])
    faces = [(p.picture_u8, p.keypoints.face * p.size, p.keypoints.face * p.size) for p in people]
    found = evaluate_lip_reader(stage.module, faces)
    assert found["faces"] == 4 and 0 <= found["off_shut"] <= found["worst"] and found["off"] <= found["worst"]
    assert cut_mouth(people[0].picture_u8, faces[0][1]).gap == pytest.approx(lips_gap(faces[0][1]))


def test_a_run_of_the_stage_becomes_part_of_the_detector(reader, detector, tmp_path):
    lips = run_of(tmp_path / "lips", dict(reader.state_dict()))
    faces = run_of(tmp_path / "faces", {k: v.contiguous() for k, v in KeypointDetector().state_dict().items()})
    assert main(["weights", "assemble", "--lips", lips, "-o", str(tmp_path / "model")]) == 0
    ours, base = (load_file(f / "detector/model.safetensors") for f in (tmp_path / "model", find_model("tiny")))
    changed = {k.split(".")[0] for k in base if not torch.equal(ours[k], base[k])}
    assert ours.keys() == base.keys() and changed == {"lips"}
    assemble(tmp_path / "both", detector=faces)
    kept = load_file(tmp_path / "both/detector/model.safetensors")
    assert torch.equal(kept["lips.body.0.weight"], base["lips.body.0.weight"]) and not torch.equal(
        kept["face.stem.0.weight"], base["face.stem.0.weight"]
    )
    named = tmp_path / "named"
    assemble(named)
    (named / "detector/model.safetensors").unlink()
    (named / "detector/config.json").write_text('{"class": "DWPose"}')
    with pytest.raises(TrainingError, match="give --detector"):
        assemble(tmp_path / "none", lips=lips, base=str(named))
    assemble(tmp_path / "own", lips=lips, detector=faces, base=str(named))
    assert KeypointDetector.from_pretrained(tmp_path / "own/detector").reads_lips
