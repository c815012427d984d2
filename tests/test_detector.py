"""The key point detector with random or hand-set weights: shapes, decoding, determinism, saving, errors.

Quality is measured, not tested.
"""

import math

import numpy as np
import pytest
import torch

from cyberhost_model.errors import ModelError, NoFaceError
from cyberhost_model.perception import keypoint_detector as d
from cyberhost_model.perception.crops import rotated_crop
from cyberhost_model.perception.detector import Detection, analyse
from cyberhost_model.perception.geometry import intersection_over_smaller
from cyberhost_model.perception.heat_net import HeatNet, concentration, find_peaks, fuse_batchnorm, normalise_crops
from cyberhost_model.perception.keypoint_detector import KeypointDetector, certainty
from cyberhost_model.perception.keypoints import NECK, Keypoints


@pytest.fixture(scope="module")
def detector() -> KeypointDetector:
    torch.manual_seed(0)
    return KeypointDetector().eval()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (120, 200, 3)).astype(np.uint8)


def test_it_is_small(detector):
    assert sum(p.numel() for p in detector.parameters()) < 3.5e6


@pytest.mark.parametrize(("stride", "maps", "side"), [(4, 68, 128), (8, 4, 160)])
def test_net_shapes_and_gradients(stride, maps, side):
    net = HeatNet(maps, stride)
    out, presence = net(torch.randint(0, 255, (2, side, side, 3), dtype=torch.uint8))
    assert out.shape == (2, maps, side // stride, side // stride) and presence.shape == (2,)
    (out.square().mean() + presence.square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_input_does_not_depend_on_exposure():
    x = torch.randint(60, 120, (1, 32, 32, 3), dtype=torch.uint8)
    assert torch.allclose(normalise_crops(x), normalise_crops(x + 80), atol=1e-4)
    assert normalise_crops(torch.full((1, 32, 32, 3), 7, dtype=torch.uint8)).abs().max() < 1e-5


def test_peaks_are_exact_between_cells():
    y, x = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(16) + 0.5, indexing="ij")
    places = torch.tensor([[5.3, 9.9], [0.5, 15.5], [8.0, 3.5]])
    logits = torch.stack([-((x - px) ** 2 + (y - py) ** 2) / (2 * 0.8**2) for px, py in places])[None] + 3
    found, value = find_peaks(logits)
    assert torch.allclose(found[0][[0, 2]] * 16, places[[0, 2]], atol=0.05)
    assert torch.allclose(found[0][1] * 16, places[1], atol=0.5)  # half of the corner's surroundings is missing
    assert value.shape == (1, 3) and value.max() <= 3


def test_concentration_tells_one_place_from_many():
    logits = torch.zeros(3, 4, 20, 20)
    logits[0, :, 7, 9] = 30  # one place: all of the weight in 5 x 5 cells
    logits[1, :, 2, 2] = logits[1, :, 17, 17] = 30  # two places
    assert torch.allclose(concentration(logits), torch.tensor([1.0, 0.5, 25 / 400]), atol=1e-4)
    assert torch.allclose(certainty(logits, (0.4, 0.6)), torch.tensor([1.0, 0.5, 0.0]), atol=1e-3)


def test_turned_crop_maps_back_to_the_picture():
    picture = np.zeros((200, 300, 3), np.uint8)
    spot = np.array([180.0, 90.0])
    picture[86:95, 176:185] = 255
    for angle in (0.0, 0.4, -1.0):
        crop, back = rotated_crop(picture, np.array([160.0, 100.0]), 90.0, angle, 128)
        y, x = np.nonzero(crop[..., 0] > 127)
        unit = np.array([x.mean() + 0.5, y.mean() + 0.5]) / 128
        assert np.allclose(back[:, :2] @ unit + back[:, 2], spot + 0.5, atol=0.8), angle


def test_overlap_of_boxes():
    assert intersection_over_smaller((0, 0, 10, 10), (5, 0, 15, 10)) == 0.5
    assert intersection_over_smaller((0, 0, 10, 10), (4, 4, 6, 6)) == 1.0
    assert intersection_over_smaller((0, 0, 10, 10), (11, 0, 15, 10)) == 0.0


def test_untrained_detector_finds_nothing(detector, picture):
    assert detector.detect(picture) == []
    with pytest.raises(NoFaceError, match="^no face found in me.png: use a picture where") as caught:
        analyse(picture, detector, "me.png")
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (700, 3), (2000, 1600)])
def test_any_size_is_taken(detector, shape):
    assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []


def test_other_arrays_are_refused(detector):
    for bad in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)):
        with pytest.raises(ValueError, match="uint8"):
            detector.detect(bad)


def test_whole_person_has_the_layout_and_is_deterministic(detector, picture):
    first, second = (detector.detect(picture, people=1, threshold=0.0) for _ in range(2))
    assert len(first) >= 1
    person = first[0].keypoints
    assert person.body.shape == (18, 2) and person.hands.shape == (2, 21, 2) and person.face.shape == (68, 2)
    assert all(a.dtype == np.float32 and np.isfinite(a).all() for a in vars(person).values())
    assert np.allclose(person.body[NECK], (person.body[2] + person.body[5]) / 2)
    assert np.allclose(person.body[14], person.face[36:42].mean(0), atol=1e-5)
    assert (person.face_score == np.float32(first[0].face_confidence)).all()
    assert all(
        np.array_equal(a, b) for a, b in zip(vars(person).values(), vars(second[0].keypoints).values(), strict=True)
    )
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (p.box for p in first)]
    assert areas == sorted(areas, reverse=True)


class OneSpot(torch.nn.Module):
    """A finder that sees a face of `size` (0..1 of its crop) wherever the crop is red."""

    def __init__(self, size: float):
        super().__init__()
        self.size = size

    def forward(self, crops):
        red = (crops[..., 0].float() - crops[..., 1].float())[:, None] / 255
        heat = torch.nn.functional.avg_pool2d(red, 8)
        maps = torch.zeros(len(crops), d.FINDER_MAPS, *heat.shape[2:])
        maps[:, 0] = torch.where(heat[:, 0] > 0.1, 8 * heat[:, 0], -9.0)
        maps[:, 3] = math.log(self.size / d.SIZE_UNIT)
        return maps, torch.zeros(len(crops))


def test_finder_peaks_come_back_in_pixels(monkeypatch):
    detector = KeypointDetector()
    detector.finder = OneSpot(0.25)
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[30:50, 200:220, 0] = 255
    (confidence, centre, size), *_ = sorted(
        detector.candidates(picture, [(np.array([150.0, 50.0]), 320.0)]), key=lambda c: -c[0]
    )
    assert np.allclose(centre, (210, 40), atol=9) and np.isclose(size, 80, rtol=1e-3) and confidence > 0.9


def test_mirrored_hand_is_the_mirror_of_the_hand(detector, picture):
    flipped = np.ascontiguousarray(picture[:, ::-1])
    ((left, a),) = detector.hand_points(picture, [(0, np.array([70.0, 60.0]), 50.0)])
    ((right, b),) = detector.hand_points(flipped, [(1, np.array([130.0, 60.0]), 50.0)])
    assert np.allclose(left, right * [-1, 1] + [200, 0], atol=0.5) and np.isclose(a, b, atol=1e-3)


def test_folding_batch_norms_changes_nothing():
    torch.manual_seed(1)
    net, plain = HeatNet(5, 4), HeatNet(5, 4, norm=False)
    crops = torch.randint(0, 255, (4, 64, 64, 3), dtype=torch.uint8)
    for _ in range(5):
        net(crops)  # running statistics that are not 0 and 1
    plain.load_state_dict(fuse_batchnorm(net.eval().state_dict()))
    with torch.no_grad():
        for a, b in zip(net(crops), plain.eval()(crops), strict=True):
            assert a.std() > 0 and torch.allclose(a, b, atol=1e-4)


def test_save_and_load(detector, picture, tmp_path):
    detector.save_pretrained(tmp_path / "one")
    loaded = KeypointDetector.from_pretrained(tmp_path / "one")
    assert not loaded.training and loaded.face.presence.weight.dtype == torch.float32
    loaded.save_pretrained(tmp_path / "two")
    again = KeypointDetector.from_pretrained(tmp_path / "two")
    a, b = (x.detect(picture, threshold=0.0)[0].keypoints.face for x in (loaded, again))
    assert np.array_equal(a, b)
    assert (tmp_path / "one" / "model.safetensors").stat().st_size < 7e6


def test_broken_models_say_so(detector, tmp_path):
    with pytest.raises(ModelError, match="no usable"):
        KeypointDetector.from_pretrained(tmp_path)
    detector.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"class": "Other", "version": 1}')
    with pytest.raises(ModelError, match="does not hold"):
        KeypointDetector.from_pretrained(tmp_path)
    detector.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="no usable"):
        KeypointDetector.from_pretrained(tmp_path)


class Fixed:
    """Stands where a detector is asked for people only."""

    def __init__(self, people):
        self.found = people

    def detect(self, picture_u8):
        return self.found


def test_analysis_takes_the_largest_and_says_how_many():
    one, two = (Detection(Keypoints.empty(), 0.9, (0, 0, s, s)) for s in (9, 4))
    picture = np.zeros((8, 8, 3), np.uint8)
    assert analyse(picture, Fixed([one])).warnings == []
    result = analyse(picture, Fixed([one, two]), "us.jpg")
    assert result.keypoints is one.keypoints and result.warnings == [
        "2 faces in us.jpg: the largest is animated (--face chooses another, left to right from 1)"
    ]
