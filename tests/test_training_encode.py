"""From a dataset to training steps: `data synth`, `data encode --data`, `train --stage 1` and `2`."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from cyberhost_cli.main import main
from cyberhost_model.config import preset
from cyberhost_model.lab.filmed.manifest import accepted_rows, add_rows, read_manifest, write_manifest
from cyberhost_model.lab.synthetic.clips import export_clip
from cyberhost_model.lab.training.clip_encoder import EncoderConfig, load_clip_encoder
from cyberhost_model.lab.training.clips import LatentClips
from cyberhost_model.lab.training.coded import list_clips
from cyberhost_model.lab.training.encode import clip_name, encode_rows
from data_helpers import small_synth, speech_folder

pytest.importorskip("av")
pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Five clips of 128 x 128: 0 and 1 of 32 frames, 2 whose video is damaged, 3 too short, 4 held out."""
    folder = tmp_path_factory.mktemp("dataset")
    synth = small_synth(folder / "speech", frames=32)
    rows = []
    for number in range(5):
        synth.frames = 12 if number == 3 else 32 if number < 2 else 16
        rows.append(export_clip(synth.clip(number), folder, number))
        rows[-1].split = "held_out" if number == 4 else "train"
    (folder / "000002.mp4").write_bytes((folder / "000002.mp4").read_bytes()[:500])
    add_rows(folder, rows)
    return folder


def _encode(dataset, out, capsys, *more):
    code = main(["data", "encode", "--data", str(dataset), "-o", str(out), "--frames", "16", "--json", *more])
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
    clips = list_clips(out)
    assert [clip.name for clip in clips] == [f"00000{n}-000{start}" for n in (0, 1) for start in ("00", "16")]
    (shard,) = out.glob("*x*/*")
    assert shard.parent.name == "128x128" and {clip.file for clip in clips} == {shard}
    whole = clips[1].open()
    assert whole.latents(0, 0, 16).shape == (16, 39, 8, 8) and whole.windows(0, 16, 6).shape == (16, 6, 5, 128)
    assert len(whole.rows("heard")) == 16 and whole.rows("place")[0].tolist() == [16, 30]
    assert len(whole.sound()) == 0 < len(clips[0].open().sound())  # the sound of both stretches
    before = load_file(shard)
    assert all(torch.isfinite(v.float()).all() for v in before.values())
    rows = {name: before[name] for name in ("z", "features", "frame.face")}
    shard.unlink()
    code, found, _ = _encode(dataset, out, capsys, "--clips", "1")
    assert code == 0 and found["done_before"] == 0 and found["coded"] == 2
    first = next(out.glob("*x*/*"))
    changed = first.stat().st_mtime_ns
    code, found, _ = _encode(dataset, out, capsys, "--workers", "1")  # a process does the same
    assert code == 0 and found["done_before"] == 1 and found["coded"] == 2 and found["psnr"]["whole"] > 25
    assert first.stat().st_mtime_ns == changed and len(list(out.glob("*x*/*"))) == 2
    again = [clip.open() for clip in list_clips(out)]
    for name, value in rows.items():
        assert torch.equal(torch.cat([clip.rows(name) for clip in again]), value)


def test_machines_share_the_clips_and_each_is_coded_once(dataset, tmp_path, capsys):
    out, names = tmp_path / "coded", []
    for shard in ("1/2", "2/2"):
        code, found, _ = _encode(dataset, out, capsys, "--shard", shard)
        assert code == 0 and found["clips"] == 2 and found["done_before"] == 0
        names.append({clip.name for clip in list_clips(out)})
    assert names[0] < names[1] and len(names[1]) == 4
    code, found, _ = _encode(dataset, out, capsys)
    assert found["coded"] == 0 and found["done_before"] == 2
    code, _, said = _encode(dataset, out, capsys, "--shard", "3/2")
    assert code == 2 and "I from 1 to N" in said
    code, found, _ = _encode(dataset, tmp_path / "range", capsys, "--start", "1", "--clips", "1")
    assert found["clips"] == 1 and {clip.name[:6] for clip in list_clips(tmp_path / "range")} == {"000001"}


def test_several_references_are_kept_and_one_is_drawn(dataset, tmp_path, capsys):
    """Relative latents are there once for each; features in 8 bits are nearly those in 16."""
    out, shape = tmp_path / "coded", preset("tiny")
    code, _, _ = _encode(dataset, out, capsys, "--references", "3", "--clips", "1", "--features", "int8")
    assert code == 0
    clip = list_clips(out)[0].open()
    assert clip.references == 3 and clip.count("z") == 48 and clip.rows("features").dtype == torch.int8
    different = [clip.latents(k, 0, 16) for k in range(3)]
    assert not torch.equal(different[0], different[1])
    data = LatentClips(out, shape, 0, 1, 12)
    assert len({data[i]["r"].numpy().tobytes() for i in range(20)}) > 3  # of two stretches
    _encode(dataset, tmp_path / "one", capsys, "--clips", "1")
    exact = list_clips(tmp_path / "one")[0].open()
    one, other = (c.windows(0, 16, 6) for c in (clip, exact))
    assert float((one - other).norm() / other.norm()) < 0.01
    assert torch.equal(exact.latents(0, 0, 16), different[0])  # the first is the one that is drawn alone


def test_a_folder_of_an_earlier_version_is_told(dataset, tmp_path, capsys):
    out = tmp_path / "coded"
    out.mkdir()
    (out / "source.json").write_text(json.dumps({"dataset": str(dataset), "frames": 16}))
    code, _, said = _encode(dataset, out, capsys)
    assert code == 3 and "of an earlier version, which can be trained on; use another folder" in said


def test_what_was_coded_before_an_error_is_kept(dataset, tmp_path):
    """The shard of a job that is stopped holds the clips that were whole."""
    rows = accepted_rows(dataset)
    encoder = load_clip_encoder(EncoderConfig())

    def stop(done, every):
        if done == 2:  # of the clips, the short one is done at once
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_rows(dataset, rows, tmp_path, encoder, 16, 0, progress=stop)
    assert [clip.name for clip in list_clips(tmp_path)] == ["000000-00000", "000000-00016"]
    assert encode_rows(dataset, rows, tmp_path, encoder, 16, 0).kept == 1


def test_splits_and_settings_are_not_mixed(dataset, tmp_path, capsys):
    out = tmp_path / "coded"
    code, found, _ = _encode(dataset, out, capsys, "--held-out")
    assert code == 0 and found["clips"] == 1 and [clip.name for clip in list_clips(out)] == ["000004-00000"]
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
    assert main(["data", "synth", "--speech", str(speech), "-o", str(made), "--clips", "1", "--frames", "16"]) == 0
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
            "1",
            "--batch",
            "1",
            "--workers",
            "0",
            "--json",
        ]
        assert main(command) == 0
        losses = json.loads(capsys.readouterr().out)["losses"]
        assert 0 < losses["loss"] < 1e3
