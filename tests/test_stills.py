"""Labelled stills: read, cut out, and used by data workers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cyberhost_model.errors import InputError
from cyberhost_model.lab.synthetic.stills import load_stills

EXAMPLE = Path(__file__).parents[1] / "examples/astronaut.jpg"

# MediaPipe's 33 pose and 478 face points of the example, as far as `Keypoints.from_mediapipe` reads them, stand on two
# ellipses.
WORKER = """
import sys, cv2
from torch.utils.data import DataLoader, Dataset
from cyberhost_model.lab.synthetic.stills import load_stills
stills = load_stills(sys.argv[1])
class Items(Dataset):
    def __len__(self): return 2
    def __getitem__(self, i):
        cv2.setNumThreads(1)
        return cv2.GaussianBlur(stills[0].picture_u8, (0, 0), 5).mean()
print(len(list(DataLoader(Items(), batch_size=None, num_workers=1))))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    import math

    place = tmp_path_factory.mktemp("stills")
    Image.open(EXAMPLE).resize((128, 128)).save(place / "one.png")

    def ring(n, cx, cy, r):
        return [[cx + r * math.cos(6.283 * i / n), cy + 1.3 * r * math.sin(6.283 * i / n)] for i in range(n)]

    label = {
        "face": ring(478, 0.44, 0.22, 0.09),
        "pose33": [[x, y, 1.0] for x, y in ring(33, 0.45, 0.6, 0.2)],
        "left_hand21": None,
        "right_hand21": None,
    }
    empty = {"face": None, "pose33": None, "left_hand21": None, "right_hand21": None}
    (place / "keypoints.json").write_text(json.dumps({"one.png": label, "gone.png": label, "nobody.png": empty}))
    return place


def test_stills_without_a_face_or_a_file_are_left_out(folder):
    stills = load_stills(folder)
    assert [s.identity for s in stills] == [f"{folder.name}/one"]
    assert stills[0].mask.shape == (128, 128) and 0 <= stills[0].mask.min() < stills[0].mask.max() <= 1


def test_a_folder_without_faces_is_told(tmp_path):
    (tmp_path / "keypoints.json").write_text("{}")
    with pytest.raises(InputError, match="no labelled picture"):
        load_stills(tmp_path)


def test_data_workers_run_after_stills_were_cut_out(folder):
    """OpenCV's thread pool, once started, hangs in a forked worker: reading stills must not start it."""
    done = subprocess.run([sys.executable, "-c", WORKER, str(folder)], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "2", done.stderr
