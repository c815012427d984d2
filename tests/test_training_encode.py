"""From a dataset to training steps: `data synth`, `data encode --data`, `train --stage 1` and `2`."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from cyberhost_cli.main import main
from cyberhost_model.lab.filmed.manifest import add_rows, read_manifest, write_manifest
from cyberhost_model.lab.synthetic.clips import export_clip
from cyberhost_model.lab.training.encode import clip_name
from data_helpers import small_synth, speech_folder

pytest.importorskip("av")
pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Five clips of 128 x 128: 0 and 1 of 40 frames, 2 whose video is damaged, 3 too short, 4 held out."""
    folder = tmp_path_factory.mktemp("dataset")
    synth = small_synth(folder / "speech", frames=40)
    rows = []
    for number in range(5):
        synth.frames = 12 if number == 3 else 40 if number < 2 else 20
        rows.append(export_clip(synth.clip(number), folder, number))
        rows[-1].split = "held_out" if number == 4 else "train"
    (folder / "000002.mp4").write_bytes((folder / "000002.mp4").read_bytes()[:500])
    add_rows(folder, rows)
    return folder


def _encode(dataset, out, capsys, *more):
    code = main(["data", "encode", "--data", str(dataset), "-o", str(out), "--frames", "20", "--json", *more])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


def test_a_dataset_is_coded_clip_by_clip_and_goes_on_where_it_was(dataset, tmp_path, capsys):
    out = tmp_path / "coded"
    code, found, said = _encode(dataset, out, capsys)
    assert (
        code == 0 and found["clips"] == 4 and found["coded"] == 4 and found["short"] == 1 and found["split"] == "train"
    )
    assert [broken["clip"] for broken in found["broken"]] == ["000002"] and "000002.mp4" in said
    assert found["psnr"].keys() == {"whole", "mouth", "hands"} and found["psnr"]["whole"] > 25
    files = sorted(out.glob("*x*/*"))
    assert [f.relative_to(out).as_posix() for f in files] == [
        f"128x128/00000{clip}-000{start}.safetensors" for clip in (0, 1) for start in ("00", "20")
    ]
    whole = load_file(files[1])
    assert (
        whole["z"].shape == (20, 27, 8, 8)
        and len(whole["heard"]) == len(whole["audio"]) == 20
        and int(whole["first"]) == 20
    )
    assert all(torch.isfinite(v.float()).all() for v in whole.values())
    kept = files[2].stat().st_mtime_ns
    files[1].unlink()
    files[2].with_name(".000009-00000.tmp").write_bytes(b"of a run that was killed")
    code, found, _ = _encode(dataset, out, capsys)
    assert code == 0 and found["done_before"] == 1 and files[2].stat().st_mtime_ns == kept
    again = load_file(files[1])
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_splits_and_settings_are_not_mixed(dataset, tmp_path, capsys):
    out = tmp_path / "coded"
    code, found, _ = _encode(dataset, out, capsys, "--held-out")
    assert code == 0 and found["clips"] == 1 and [p.stem for p in out.glob("*x*/*")] == ["000004-00000"]
    code, _, said = _encode(dataset, out, capsys)
    assert code == 3 and "other settings (split)" in said
    code, _, said = _encode(dataset, tmp_path / "none", capsys, "--speech", "x")
    assert code == 2 and "--data" in said


def test_a_dataset_of_which_nothing_can_be_read(dataset, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    row = read_manifest(dataset)[0]
    write_manifest(broken, [row])
    code, _, said = _encode(broken, tmp_path / "coded", capsys)
    assert code == 3 and "none of 1 clips can be read" in said and row.clip in said
    code, _, said = _encode(tmp_path, tmp_path / "coded2", capsys)
    assert code == 3 and "manifest.parquet" in said


def test_names_of_prepared_clips_are_file_names(dataset):
    row = read_manifest(dataset)[0]
    row.clip = "talk-0123456789/0003"
    assert clip_name(row, 32) == "talk-0123456789-0003-00032"


def test_from_made_clips_to_training_steps(tmp_path, capsys):
    speech = speech_folder(tmp_path / "speech")
    made, coded = tmp_path / "made", tmp_path / "coded"
    assert main(["data", "synth", "--speech", str(speech), "-o", str(made), "--clips", "2", "--frames", "16"]) == 0
    rows = read_manifest(made)
    for row in rows:
        row.split = "train"
    write_manifest(made, rows)
    assert main(["data", "encode", "--data", str(made), "-o", str(coded), "--frames", "16"]) == 0
    shutil.rmtree(made)  # training reads the coded clips alone
    capsys.readouterr()
    for stage in ("1", "2"):
        command = [
            "train",
            "--stage",
            stage,
            "--data",
            str(coded),
            "-o",
            str(tmp_path / stage),
            "--steps",
            "2",
            "--workers",
            "0",
            "--json",
        ]
        assert main(command) == 0
        losses = json.loads(capsys.readouterr().out)["losses"]
        assert 0 < losses["loss"] < 1e3
