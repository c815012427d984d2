"""Face controls: what they measure, and their positions."""

import numpy as np
import pytest

from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.puppet import Pose, Puppet
from cyberhost_model.perception.face_controls import face_control_maps, face_controls
from cyberhost_model.perception.keypoints import Keypoints

HW = (16, 16)


@pytest.fixture(scope="module")
def puppet() -> Puppet:
    return Puppet(drawn_still(5, (256, 256)))


def rendered(puppet: Puppet, **pose) -> Keypoints:
    return puppet.render(Pose(**{"opening": puppet.face.rest_opening, **pose})).keypoints


def controls_of(puppet: Puppet, **pose) -> np.ndarray:
    return face_controls(puppet.still.keypoints, [rendered(puppet, **pose)], HW)[0]


def test_a_frame_like_the_reference_has_no_controls(puppet):
    k = puppet.still.keypoints
    assert face_controls(k, [k, k], HW).shape == (2, 3, 16, 16) and np.abs(face_controls(k, [k], HW)).max() == 0


def test_an_opened_mouth_is_a_control_at_the_mouth(puppet):
    control = controls_of(puppet, opening=1.0)[0]
    y, x = np.unravel_index(control.argmax(), HW)
    mouth = puppet.still.keypoints.face[60:68].mean(0) * 16
    assert np.hypot(x + 0.5 - mouth[0], y + 0.5 - mouth[1]) < 1.5
    assert 0.04 < control.max() < 0.2  # shares of the face's height


def test_lips_and_lids_have_signs(puppet):
    wide, shut = controls_of(puppet, width=1.0), controls_of(puppet, blink=1.0)
    assert wide[1].max() > 0.005 and controls_of(puppet, width=-1.0)[1].min() < -0.005
    assert shut[2].min() < -0.005 and np.abs(shut[0]).max() < 0.01


def test_half_open_is_half_the_control(puppet):
    rest = puppet.face.rest_opening
    half, full = controls_of(puppet, opening=rest + (1 - rest) / 2)[0].max(), controls_of(puppet, opening=1.0)[0].max()
    assert half / full == pytest.approx(0.5, abs=0.1)


def test_without_a_face_there_are_no_controls(puppet):
    absent = rendered(puppet, opening=1.0)
    absent.face_score = np.zeros_like(absent.face_score)
    assert (
        not face_controls(puppet.still.keypoints, [absent], HW).any()
        and not face_controls(absent, [puppet.still.keypoints], HW).any()
    )


def test_control_maps_are_gaussians_of_height_one_at_mouth_and_eyes(puppet):
    k = puppet.still.keypoints
    control_maps = face_control_maps(k, HW)
    opened = controls_of(puppet, opening=1.0)[0]
    assert np.array_equal(control_maps[0], control_maps[1]) and 0.75 < control_maps[0].max() <= 1
    # the same cell or its neighbour
    assert abs(int(control_maps[0].argmax()) - int(opened.argmax())) in (0, 1, 15, 16, 17)
    y, x = np.unravel_index(control_maps[2].argmax(), HW)
    eyes = [k.face[36:42].mean(0) * 16, k.face[42:48].mean(0) * 16]
    assert min(np.hypot(x + 0.5 - e[0], y + 0.5 - e[1]) for e in eyes) < 1
    absent = rendered(puppet)
    absent.face_score = np.zeros_like(absent.face_score)
    assert not face_control_maps(absent, HW).any()
