"""What the key point detector learns from: geometry of the scenes, targets of the batches, losses, measurements."""

import numpy as np
import pytest
import torch

from cyberhost_model.hub.tensors import read_safetensors
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.stills import Still
from cyberhost_model.lab.training.detector_init import detector_of
from cyberhost_model.lab.training.detector_samples import BatchSizes, DetectorSamples, _hand_places
from cyberhost_model.lab.training.picture_augment import (
    DOUBTFUL,
    blur_along,
    centre_and_size,
    crop_edges,
    cut_outs,
    degrade,
    random_texture,
    redress,
    scramble_face,
    similarity_transform,
    skin_mask,
    warp_cut_out,
)
from cyberhost_model.lab.training.stages.detector import (
    DetectorStage,
    DetectorStageConfig,
    focal_loss,
    heat_map_loss,
    point_loss,
)
from cyberhost_model.perception import keypoint_detector as d
from cyberhost_model.perception.detector import Detection
from cyberhost_model.perception.keypoints import NECK, Keypoints
from training_measures import evaluate_detector


def still(seed: int = 0, size: tuple[int, int] = (160, 200)) -> Still:
    """A noise picture of somebody whose face, shoulders and left hand have known places; the left hand's root is pure
    red.
    """
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 120, (size[1], size[0], 3)).astype(np.uint8)
    mask = np.zeros((size[1], size[0]), np.float32)
    mask[40:, 40:140] = 1
    k = Keypoints.empty()
    k.face[:], k.face_score[:] = rng.uniform((0.4, 0.25), (0.6, 0.4), (68, 2)), 1
    k.body[2], k.body[5], k.body[NECK], k.body_score[[1, 2, 5]] = (0.3, 0.5), (0.7, 0.5), (0.5, 0.5), 1
    k.hands[0], k.hands_score[0] = rng.uniform((0.7, 0.7), (0.85, 0.8), (21, 2)), 1
    x, y = (k.hands[0, 0] * size).astype(int)
    picture[y - 3 : y + 4, x - 3 : x + 4] = (255, 0, 0)
    return Still(picture, mask, k, f"noise/{seed}")


@pytest.fixture(scope="module")
def samples() -> DetectorSamples:
    return DetectorSamples([still(i) for i in range(3)], [still(9)], 0, BatchSizes(2, 3, 2, 3))


def test_mirror_swaps_left_and_right():
    one, other = cut_outs([still()])
    assert np.allclose(other.keypoints.body[5], one.keypoints.body[2] * [-1, 1] + [1, 0])
    assert other.keypoints.hands_score[0].max() == 0 and other.keypoints.hands_score[1].min() == 1
    assert np.allclose(other.keypoints.face[36, 0], 1 - one.keypoints.face[45, 0])
    assert np.array_equal(other.levels[0], one.levels[0][:, ::-1])


@pytest.mark.parametrize(("scale", "angle"), [(1.0, 0.0), (0.7, 0.5), (0.3, -0.4), (1.6, 1.0)])
def test_points_stay_on_what_they_mark(scale, angle):
    source = cut_outs([still()])[0]
    root = source.keypoints.hands[0, 0] * source.size
    rgb, alpha, keypoints = warp_cut_out(source, similarity_transform(root, np.array([64.0, 50.0]), scale, angle), 128)
    assert np.allclose(keypoints.hands[0, 0] * 128, (64, 50), atol=1e-3)
    y, x = np.nonzero(rgb[..., 0] - rgb[..., 1] > 130)
    assert np.allclose((x.mean() + 0.5, y.mean() + 0.5), (64, 50), atol=1.6 * max(scale, 0.6))
    assert rgb.shape == (128, 128, 3) and 0 <= alpha.min() and alpha.max() <= 1


def test_points_outside_the_still_are_not_shown():
    one = still()
    one.keypoints.body[5] = (1.2, 0.5)
    source = cut_outs([one])[0]
    assert warp_cut_out(source, similarity_transform(source.size / 2, np.array([64, 64]), 0.5, 0.0), 128)[2].body_score[
        [2, 5]
    ].tolist() == [1, 0]


def test_filmed_people_join_the_stills(samples):
    """Without both hands they are seen by the finder and the face network alone."""
    filmed = [still(20)]
    beside = DetectorSamples([still(i) for i in range(3)], [still(9)], 0, BatchSizes(2, 3, 2, 3), filmed=filmed)
    assert len(beside.pools[0]) == 8 and len(beside.labelled[0]) == 6
    first, other = samples[1], beside[1]
    assert all(first[name].shape == other[name].shape for name in first)


def test_batches_are_a_function_of_seed_and_step(samples):
    first, again, next_one = samples[5], samples[5], samples[6]
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["face_crops"], next_one["face_crops"])
    assert first["finder_crops"].shape == (2, d.FINDER, d.FINDER, 3) and first["finder_crops"].dtype == torch.uint8
    assert first["body_heat"].shape == (2, 20, d.BODY // 4, d.BODY // 4) and first["hand_points"].shape == (3, 21, 2)


def test_finder_targets_point_back_at_the_face(samples):
    cells = d.FINDER // 8
    seen = 0
    for i in range(12):
        s = samples._finder(np.random.default_rng(i))
        for iy, ix in zip(*np.nonzero(s["heat"] > 0.999), strict=True):
            near = s["weight"] > 0
            y, x = np.mgrid[:cells, :cells]
            dx, dy, log_size = s["regress"][:, iy, ix]
            centre = np.array([ix + 0.5 + dx, iy + 0.5 + dy])
            assert (
                (np.abs(centre - [ix + 0.5, iy + 0.5]) <= 0.5001).all() or min(ix, iy) == 0 or max(ix, iy) == cells - 1
            )
            same = near & (np.abs(x - ix) <= 1) & (np.abs(y - iy) <= 1)
            assert same.sum() >= 4 and 0.04 < np.exp(log_size) * d.SIZE_UNIT < 0.75
            seen += 1
    assert seen >= 5


def test_face_and_hand_samples_have_their_points_inside(samples):
    present = 0
    for i in range(12):
        for s in (samples._face(np.random.default_rng(i)), samples._hand(np.random.default_rng(i))):
            if s["present"]:
                middle, size = centre_and_size(s["points"])
                assert np.abs(middle - 0.5).max() < 0.3 and 0.3 < size < 1.1
                present += 1
            else:
                assert s["points"].shape[1] == 2 and np.abs(s["points"] * [1, 1]).max() <= 1
    assert present > 8


def test_a_hand_without_a_label_is_not_taught_to_be_absent():
    """Its wrist is seen: the hand is blurred, not gone. Where no wrist is seen either, there is no hand."""
    one = still()
    one.keypoints.body[4], one.keypoints.body_score[4] = (0.5, 0.45), 1  # the right wrist; no right hand is labelled
    known = {side: [] for side in (0, 1)}
    for people in ([one], [still()]):
        made = DetectorSamples(people, [], 0, BatchSizes(2, 3, 2, 3))
        made.labelled = [made.labelled[0][:1], []]  # not the mirrored one
        batches = [made._body(np.random.default_rng(i)) for i in range(6)]
        for side in known:
            known[side].append([bool(b["known"][18 + side]) for b in batches if not b["seen"][18 + side]])
    assert not any(known[1][0]) and all(known[1][1]) and known[1][0]
    logits, target = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    both = heat_map_loss(logits, target, torch.tensor([[True, True]]))
    logits[0, 1] = 9.0
    assert heat_map_loss(logits, target, torch.tensor([[True, False]])) == both


def test_parts_that_do_not_train_stay_bit_for_bit(tmp_path):
    """Of a detector that goes on: finder, face and lip reader are those of before in the folder that ships."""
    before = detector_of("tiny")
    config = DetectorStageConfig(parts=["body", "hand"], filmed=0.5, looks=1.0, edges=1.0, body=2, hand=2)
    stage = DetectorStage(
        [still(i) for i in range(2)], [], BatchSizes(body=2, hand=2), [still(5)], detector_of("tiny"), config
    )
    batch = stage.dataset(0)[0]
    assert {name.split("_")[0] for name in batch} == {"body", "hand"}
    batch = {name: value[None] if value.ndim == 0 else value for name, value in batch.items()}
    optimizer = torch.optim.SGD([p for p in stage.module.parameters() if p.requires_grad], 1e-2)
    losses = stage.loss(batch, torch.Generator())
    assert set(losses) == {"loss", "body", "hand_size", "hand", "hand_there"}
    losses["loss"].backward()
    optimizer.step()
    for name, made in (("old", before), ("new", stage.module)):
        made.save_pretrained(tmp_path / name)
    old, new = (read_safetensors(tmp_path / name / "model.safetensors") for name in ("old", "new"))
    changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"body", "hand"} and {"finder", "face", "lips"} <= {name.split(".")[0] for name in old}


def test_filmed_people_have_a_share_of_their_own():
    made = DetectorSamples(
        [still(i) for i in range(3)], [still(9)], 0, BatchSizes(2, 3, 2, 3), filmed=[still(20)], filmed_share=0.4
    )
    drawn = np.array([made._pool(np.random.default_rng(i)) for i in range(600)])
    assert abs((drawn == 1).mean() - 0.35) < 0.06 and abs((drawn == 2).mean() - 0.26) < 0.06
    none = DetectorSamples([still(0)], [], 0, BatchSizes(2, 3, 2, 3), filmed_share=0.4)
    assert {none._pool(np.random.default_rng(i)) for i in range(40)} == {0}


def dressed(seed: int = 3) -> tuple[np.ndarray, np.ndarray, Keypoints]:
    """A drawn person: picture, matte and key points, as warped."""
    one = cut_outs([drawn_still(seed, (160, 160), wide=True)])[0]
    rgb, alpha, keypoints = warp_cut_out(one, np.eye(3)[:2], 160)
    return rgb, alpha, keypoints


def test_other_clothes_leave_the_background_and_the_picture_they_are_made_from():
    rgb, alpha, keypoints = dressed()
    before = rgb.copy()
    cloth = (alpha * (1 - skin_mask(rgb, keypoints)))[..., 0] > 0.8
    far = []
    for seed in range(6):
        made = redress(np.random.default_rng(seed), rgb, alpha, keypoints)
        assert np.array_equal(rgb, before) and made.dtype == np.float32 and made.min() >= 0 and made.max() <= 255
        assert np.allclose(made[alpha[..., 0] == 0], rgb[alpha[..., 0] == 0])
        far.append(np.abs(made - rgb)[cloth].mean())
    assert cloth.sum() > 500 and np.mean(far) > 25


def test_skin_is_the_face_and_the_hands():
    rgb, alpha, keypoints = dressed()
    skin = skin_mask(rgb, keypoints)[..., 0]
    x, y = (keypoints.face[30] * 160).astype(int)
    assert skin[y, x] > 0.9
    for hand in (0, 1):
        if keypoints.hands_score[hand].max() > 0.5:
            x, y = (keypoints.hands[hand].mean(0) * 160).astype(int)
            assert skin[y, x] > 0.8
    assert skin[alpha[..., 0] > 0.5].mean() < 0.6


def test_a_moving_hand_is_blurred_where_it_is():
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 255, (96, 96, 3)).astype(np.float32)
    out = blur_along(rng, picture, np.array([30.0, 40.0]), 20.0)
    assert out[35:45, 25:35].std() < 0.8 * picture[35:45, 25:35].std()
    assert np.array_equal(out[80:, 80:], picture[80:, 80:])
    assert blur_along(rng, picture, np.array([30.0, 40.0]), 2.0) is picture


def test_points_beyond_the_pictures_end_are_not_seen_and_those_hardly_beyond_are_doubtful():
    cut = 0
    for seed in range(30):
        picture = np.random.default_rng(100).uniform(0, 255, (100, 100, 3)).astype(np.float32)
        k = Keypoints.empty()
        k.body[2:8] = [(0.5, y) for y in (0.2, 0.5, 0.6, 0.7, 0.8, 0.9)]
        k.body_score[2:8] = 1
        made = crop_edges(np.random.default_rng(seed), picture, k, keep=0.4)
        assert np.array_equal(made[20, 40:60], picture[20, 40:60])
        rows = (made[1:, 40:60] != made[:-1, 40:60]).any((1, 2))  # from the edge on they repeat
        edge = (int(np.flatnonzero(rows)[-1]) + 2) / 100
        beyond = k.body[2:8, 1] - edge
        assert (k.body_score[2:8][beyond < -1e-6] == 1).all() and (k.body_score[2:8][beyond > 0.07] == 0).all()
        hardly = (beyond > 1e-6) & (beyond < 0.05)
        assert (k.body_score[2:8][hardly] == np.float32(DOUBTFUL)).all()
        cut += int((k.body_score[2:8] == 0).any())
    assert 3 < cut < 30


def test_a_person_without_a_hands_label_is_no_clean_negative_at_the_wrist():
    one = still()
    one.keypoints.body[4], one.keypoints.body_score[4] = (0.5, 0.45), 1
    places = _hand_places(cut_outs([one])[0])
    assert len(places) == 2 and np.allclose(places[1], np.array([0.5, 0.45]) * one.size)


def test_textures_and_looks_keep_shape_and_range():
    rng = np.random.default_rng(0)
    for _ in range(10):
        picture = random_texture(rng, 64)
        out = degrade(rng, picture)
        assert (
            picture.shape == (64, 64, 3)
            and picture.dtype == np.float32
            and out.dtype == np.uint8
            and out.shape == (64, 64, 3)
        )
        mixed = scramble_face(rng, picture, np.array([32.0, 32.0]), 30.0)
        assert np.array_equal(mixed[:12], picture[:12]) and not np.array_equal(mixed, picture)


def test_point_loss_is_zero_for_the_target_and_counts_present_crops_only():
    points = torch.tensor([[[0.5, 0.25]], [[0.1, 0.9]]])
    at = torch.arange(16) + 0.5
    gauss = (
        -((at[None, None, :] - points[..., 0, None] * 16) ** 2)[:, :, None, :]
        - ((at - points[..., 1, None] * 16) ** 2)[..., None]
    )
    logits = gauss / (2 * 1.3**2)
    assert point_loss(logits, points, torch.ones(2)) < 1e-3
    assert point_loss(torch.zeros(2, 1, 16, 16), points, torch.ones(2)) > 1
    assert point_loss(torch.zeros(2, 1, 16, 16), points, torch.zeros(2)) == 0


def test_focal_loss_prefers_the_truth():
    target = torch.zeros(1, 8, 8)
    target[0, 3, 4] = 1
    right, wrong = torch.full((1, 8, 8), -6.0), torch.full((1, 8, 8), -6.0)
    right[0, 3, 4], wrong[0, 5, 1] = 6, 6
    assert focal_loss(right, target) < 0.01 < 5 < focal_loss(wrong, target)


def test_all_networks_learn_from_one_batch(samples):
    torch.manual_seed(0)
    stage = DetectorStage([still()], [], BatchSizes(2, 3, 2, 3))
    stage.module = d.KeypointDetector()
    batch = samples[3]
    optimizer = torch.optim.AdamW(stage.module.parameters(), lr=2e-3)
    history = []
    for _ in range(8):
        losses = stage.loss(batch, torch.Generator())
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append({k: float(v.detach()) for k, v in losses.items()})
    for name in ("finder", "face", "body", "hand"):
        assert history[-1][name] < 0.9 * history[0][name], name


class Truthful:
    """Answers with the key points it was given, moved by `shift` pixels."""

    def __init__(self, stills, shift=0.0):
        self.known = {s.picture_u8.tobytes(): s for s in stills}
        self.shift = shift

    def detect(self, picture_u8):
        if (s := self.known.get(picture_u8.tobytes())) is None:
            return []
        move = np.array([self.shift / s.size[0], 0], np.float32)
        return [Detection(s.keypoints.map(lambda p: p + move), 0.9, (0, 0, 1, 1))]


def test_measurements():
    stills = [still(i) for i in range(3)]
    nobody = [np.zeros((8, 8, 3), np.uint8)]
    perfect = evaluate_detector(Truthful(stills), stills, nobody)
    assert (
        perfect["face_found"] == 1 and perfect["nme"] == 0 and perfect["hand_found"] == 1 and perfect["hand_pck"] == 1
    )
    assert perfect["hand_false"] == 0 and perfect["body_pck"] == 1 and perfect["false_alarms"] == 0
    shifted = evaluate_detector(Truthful(stills, 2.0), stills, nobody)
    face = stills[0].keypoints.face
    eyes = np.linalg.norm((face[36:42].mean(0) - face[42:48].mean(0)) * stills[0].size)
    assert np.isclose(evaluate_detector(Truthful(stills, 2.0), stills[:1], nobody)["nme"], 2 / eyes, rtol=1e-3)
    assert shifted["hand_pck"] == 1 and evaluate_detector(Truthful(stills, 6.0), stills, nobody)["hand_pck"] == 0
    assert evaluate_detector(Truthful(stills[:1]), stills, stills[0:1] and [stills[0].picture_u8])["false_alarms"] == 1
    assert np.isclose(evaluate_detector(Truthful(stills[:1]), stills, nobody)["face_found"], 1 / 3)
