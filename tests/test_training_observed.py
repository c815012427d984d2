"""Filmed clips become coded clips: flow is estimated against a frame of the clip itself."""

import numpy as np
import pytest
import torch

from cyberhost_model.errors import InputError
from cyberhost_model.lab.synthetic.clips import export_clip
from cyberhost_model.lab.synthetic.drawn import drawn_still
from cyberhost_model.lab.synthetic.puppet import Pose, Puppet
from cyberhost_model.lab.training.filmed_clips import cut_clips, estimate_flow, read_filmed
from data_helpers import small_synth

pytest.importorskip("av")


def test_estimated_flow_agrees_with_the_puppets_own():
    puppet = Puppet(drawn_still(5, (192, 192)))
    still = puppet.still.picture_u8
    frame = puppet.render(Pose(opening=puppet.face.rest_opening, shift=(0.06, 0.02), roll=0.04))
    flow, seen = estimate_flow(frame.picture_u8, still)
    moving = (np.linalg.norm(frame.flow, axis=-1) > 1) & (frame.seen > 0.9)
    error = np.linalg.norm(flow - frame.flow, axis=-1)
    assert moving.mean() > 0.02 and np.median(error[moving]) < 0.6 < np.linalg.norm(frame.flow, axis=-1)[moving].mean()
    still_part = np.linalg.norm(frame.flow, axis=-1) < 0.01
    assert np.median(error[still_part]) < 0.1 and seen[still_part].mean() > 0.95


def test_what_the_reference_does_not_show_is_not_seen():
    rng = np.random.default_rng(0)
    reference = np.kron(rng.integers(60, 120, (16, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    frame = reference.copy()
    frame[40:80, 40:80] = (250, 20, 20)
    _, seen = estimate_flow(frame, reference)
    assert seen[48:72, 48:72].mean() < 0.2 and seen[:32].mean() > 0.95


def test_clips_are_cut_with_their_labels_and_sound(tmp_path):
    clip = small_synth(tmp_path / "speech", frames=36).clip(1)
    row = export_clip(clip, tmp_path, 1)
    filmed = read_filmed(tmp_path, row)
    assert filmed.pictures.shape == (36, 128, 128, 3) and len(filmed.samples) == pytest.approx(
        36 / 25 * 16000, rel=0.05
    )
    parts = list(cut_clips(filmed, 16, np.random.default_rng(0)))
    assert [p.first for (p,) in parts] == [0, 16]
    assert all(len(p.frames) == len(p.clarity) == len(p.heard) == 16 for (p,) in parts)
    assert np.allclose(parts[1][0].keypoints()[3].face, clip.keypoints()[19].face)
    again = list(cut_clips(filmed, 16, np.random.default_rng(0)))
    assert torch.equal(torch.from_numpy(parts[0][0].frames[5].flow), torch.from_numpy(again[0][0].frames[5].flow))


def test_a_lost_video_is_told(tmp_path):
    row = export_clip(small_synth(tmp_path / "speech", frames=16).clip(1), tmp_path, 1)
    (tmp_path / str(row.video)).write_text("nothing")
    with pytest.raises(InputError, match="prepare the dataset again"):
        read_filmed(tmp_path, row)
