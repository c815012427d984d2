"""What drives a body besides speech: key points of a driving video or of a template, cleaned and brought to the reference's proportions."""

from .formats import read_sequence, write_sequence
from .hands import hands_for
from .retarget import retarget
from .sequence import PoseSequence
from .smooth import clean
from .template import fit_length, load_template, template_names
from .video import read_poses

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
