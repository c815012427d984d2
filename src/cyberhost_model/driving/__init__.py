"""Motion from a driving video or a template: key points, cleaned and brought to the reference's proportions."""

from cyberhost_model.driving.retarget import hands_for, retarget
from cyberhost_model.driving.sequence import PoseSequence, read_sequence, write_sequence
from cyberhost_model.driving.smooth import clean
from cyberhost_model.driving.template import fit_length, load_template, template_names
from cyberhost_model.driving.video import read_poses

__all__ = [
    "PoseSequence",
    "clean",
    "fit_length",
    "hands_for",
    "load_template",
    "read_poses",
    "read_sequence",
    "retarget",
    "template_names",
    "write_sequence",
]
