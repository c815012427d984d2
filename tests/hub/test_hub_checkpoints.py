"""Checkpoints of others are tensors or refused: nothing in a pickle is run."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cyberhost_model.errors import ModelError
from cyberhost_model.hub.tensors import read_config, read_tensors

SRC = Path(__file__).resolve().parents[2] / "src"
WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}


class Attack:
    """Unpickling it writes a file: what a malicious checkpoint would do with any command."""

    def __init__(self, path: Path):
        self.command = f"echo owned > {path}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_malicious_checkpoint_runs_nothing(tmp_path, legacy, hidden):
    proof, file = tmp_path / "owned", tmp_path / "denoising_unet.pth"
    content = {**WEIGHTS, "extra": Attack(proof)} if hidden else Attack(proof)
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match="holds more than tensors; it was not opened") as caught:
        read_tensors(file)
    assert "\n" not in str(caught.value) and not proof.exists()
    torch.load(file, weights_only=False)  # the same file, opened as many programs do
    assert proof.exists()


def test_a_bare_pickle_runs_nothing(tmp_path):
    proof, file = tmp_path / "owned", tmp_path / "model.bin"
    file.write_bytes(pickle.dumps({"a": Attack(proof)}))
    with pytest.raises(ModelError):
        read_tensors(file)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.ckpt", "w.bin"])
def test_tensors_come_as_they_are(tmp_path, name):
    file = tmp_path / name
    save_file(WEIGHTS, file) if name.endswith("safetensors") else torch.save(
        {"state_dict": WEIGHTS} if name.endswith("ckpt") else WEIGHTS, file
    )
    found = read_tensors(file)
    assert found.keys() == WEIGHTS.keys() and all(
        torch.equal(found[key], WEIGHTS[key]) and found[key].dtype == WEIGHTS[key].dtype for key in WEIGHTS
    )


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(ModelError, match="is missing; fetch it again"):
        read_tensors(tmp_path / "none.pth")
    damaged = tmp_path / "cut.pth"
    torch.save(WEIGHTS, damaged)
    damaged.write_bytes(damaged.read_bytes()[:500])
    other = tmp_path / "text.pth"
    other.write_text("hello")
    archive = tmp_path / "archive.pth"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("notes.txt", "hello")
    for path in (damaged, other, archive):
        with pytest.raises(ModelError, match="damaged|holds more than tensors"):
            read_tensors(path)
    numbers = tmp_path / "numbers.pth"
    torch.save({"a": 1, "b": WEIGHTS["b"]}, numbers)
    with pytest.raises(ModelError, match="no dictionary of tensors"):
        read_tensors(numbers)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        read_config(tmp_path / "config.json")


def test_no_other_code_of_ours_opens_pickles():
    """Every torch.load says weights_only=True, nothing fetched is run as TorchScript, and pickle itself is only named
    for its error.
    """
    for file in SRC.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for call in re.findall(r"torch\.load\((?:[^()]|\([^()]*\))*\)", text):
            assert "weights_only=True" in call, f"{file}: {call}"
        assert not re.search(r"torch\.jit\.load|pickle\.loads?\(|joblib\.load|allow_pickle=True", text), file
