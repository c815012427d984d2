"""Model folders from runs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cyberhost_cli.main import main
from cyberhost_model.codecs.reference import ReferenceCodec
from cyberhost_model.errors import TrainingError
from cyberhost_model.lab.training.assemble import assemble
from cyberhost_model.lab.training.codec_init import codec_config
from cyberhost_model.lab.training.stages.codec import SHIPPED
from cyberhost_model.runtime.loading import find_model, load_model


def run_of(folder: Path, weights: dict[str, torch.Tensor]) -> str:
    (folder / "last").mkdir(parents=True)
    save_file(weights, folder / "last/ema.safetensors")
    return str(folder)


def test_parts_without_a_run_are_the_base_models(tmp_path):
    torch.manual_seed(3)
    codec = ReferenceCodec(codec_config(SHIPPED))
    run = run_of(tmp_path / "codec", {f"codec.{k}": v for k, v in codec.state_dict().items()})
    assemble(tmp_path / "model", codec=run)
    model, tiny = load_model(str(tmp_path / "model")), find_model("tiny")
    assert torch.allclose(model.codec.to_r.weight, codec.to_r.weight, atol=1e-3)  # stored as fp16
    for part in ("network.safetensors", "speech/model.safetensors", "detector/model.safetensors"):
        ours, base = load_file(tmp_path / "model" / part), load_file(tiny / part)
        assert ours.keys() == base.keys() and all(torch.equal(ours[k], base[k]) for k in base)


def test_a_run_of_another_part_is_told(tmp_path, capsys):
    run = run_of(tmp_path / "run", {"codec.nothing": torch.zeros(1)})
    with pytest.raises(TrainingError, match="not a run of this part"):
        assemble(tmp_path / "model", network=run)
    assert main(["weights", "assemble", "--codec", str(tmp_path / "nowhere"), "-o", str(tmp_path / "model")]) == 9
    assert "no checkpoint to take weights from" in capsys.readouterr().err
