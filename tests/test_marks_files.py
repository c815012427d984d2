"""Marks in files: container tags, Content Credentials, the run record, `cyberhost inspect` and `cyberhost rerun`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from cyberhost_cli import main as cli
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_model.errors import InputError
from cyberhost_model.marks.container import SOURCE_TYPE, made_tags, read_tags
from cyberhost_model.marks.content_credentials import UNTRUSTED, available, open_signer, read_manifests
from cyberhost_model.marks.inspection import inspect_file
from cyberhost_model.marks.marking import Marks
from cyberhost_model.marks.record import make_record, read_record
from cyberhost_model.marks.watermark import mark
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.video_writer import write_video
from data_helpers import voice

C2PA = pytest.mark.skipif(not available(), reason="the extra c2pa is not installed")


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test makes a certificate in the user's folder, or signs with the user's."""
    for variable in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path_factory.mktemp("data")))
    for variable in ("CYBERHOST_CERTIFICATE", "CYBERHOST_PRIVATE_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    soundfile.write(str(tmp_path / "speech.wav"), voice(0.16, 0), 16000)
    return tmp_path / "speech.wav"


def film(out: Path, frames: int = 6, **options) -> Path:
    noise = np.random.default_rng(4).integers(0, 255, (24, 24, 3), np.uint8)
    still = np.asarray(Image.fromarray(noise).resize((256, 256)))
    return write_video([still] * frames, out, 25, **options)


def test_a_video_is_recorded_inspected_and_made_again(
    loaded_once, portrait_file: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The way of a user, by the commands themselves."""
    out, again = tmp_path / "out.mp4", tmp_path / "again.mp4"
    words = ["--steps", "1", "--size", "256", "--seed", "3", "--record", "--label", "--json"]
    assert cli.main(["animate", str(portrait_file), str(speech), "-o", str(out), *words]) == ExitStatus.OK
    told = json.loads(capsys.readouterr().out)
    record = read_record(Path(told["record"]))
    assert told["record"] == str(tmp_path / "out.json")
    assert record["arguments"]["settings"]["seed"] == 3 and record["output"]["frames"] == 4
    assert all(len(record["inputs"][name]["sha256"]) == 64 for name in ("ref", "audio"))

    assert cli.main(["inspect", str(out), "--json"]) == ExitStatus.OK
    seen = json.loads(capsys.readouterr().out)
    assert seen["made"] == ["watermark", *(["credentials"] if available() else []), "container", "record"]
    assert seen["watermark"]["false_alarm"] < 1e-10 and SOURCE_TYPE in seen["tags"]["comment"]
    number = record["output"]["run"]
    assert set(seen["runs"].values()) == {number} and set(seen["runs"]) == set(seen["made"])
    assert cli.main(["inspect", str(out)]) == ExitStatus.OK
    assert "watermark: found" in (said := capsys.readouterr().out) and f"run {number}" in said

    assert cli.main(["rerun", told["record"], "-o", str(again), "--json"]) == ExitStatus.OK
    assert json.loads(capsys.readouterr().out)["frames_equal"] is True
    assert inspect_file(again).runs["watermark"] == number
    decode = ["-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pictures = [
        subprocess.run([ffmpeg_binary(), "-i", str(path), *decode], capture_output=True, check=True).stdout
        for path in (out, again)
    ]
    assert pictures[0] == pictures[1]

    other = record["output"]["frames_sha256"].translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
    changed = {**record, "output": {**record["output"], "frames_sha256": other}}
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    third = ["rerun", str(tmp_path / "changed.json"), "-o", str(tmp_path / "third.mp4")]
    assert cli.main(third) == ExitStatus.MARK
    soundfile.write(str(speech), voice(0.2, 1), 16000)
    assert cli.main(["rerun", told["record"], "-o", str(tmp_path / "fourth.mp4")]) == ExitStatus.INPUT
    assert "SHA-256 differs" in capsys.readouterr().err and not (tmp_path / "fourth.mp4").exists()


def test_a_record_is_not_written_over_a_file(portrait_file: Path, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("mine")
    words = ["animate", str(portrait_file), str(speech), "-o", str(tmp_path / "out.mp4"), "--record"]
    assert cli.main(words) == ExitStatus.OUTPUT
    assert (tmp_path / "out.json").read_text() == "mine" and not (tmp_path / "out.mp4").exists()


NO_RECORDS = {
    "no JSON": "not a record",
    "another JSON": "[1, 2]",
    "deep": "[" * 100_000,
    "another format": '{"format": "else"}',
    "no command": '{"format": "cyberhost-run-1", "command": "rm"}',
    "no inputs": '{"format": "cyberhost-run-1", "command": "animate", "arguments": {}, "inputs": 3}',
    "no ref": '{"format": "cyberhost-run-1", "command": "animate", "arguments": {}, "inputs": {}, "model": {}, '
    '"output": {}}',
    "no settings": '{"format": "cyberhost-run-1", "command": "animate", "arguments": {}, "model": {}, "output": {}, '
    '"inputs": {"ref": {"path": "speech.wav"}, "audio": {"path": "speech.wav"}}}',
}


@pytest.mark.parametrize("kind", NO_RECORDS)
def test_what_is_no_record_is_told(speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    (tmp_path / "record.json").write_text(NO_RECORDS[kind])
    code = cli.main(["rerun", str(tmp_path / "record.json"), "-o", str(tmp_path / "out.mp4")])
    line = capsys.readouterr().err
    assert code == ExitStatus.INPUT and line.count("\n") == 1 and "record" in line


def test_videos_that_are_not_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = film(tmp_path / "plain.mp4")
    assert cli.main(["inspect", str(plain)]) == ExitStatus.MARK
    assert "no mark found" in capsys.readouterr().out
    (tmp_path / "junk.mp4").write_bytes(b"\x00\x01junk" * 500)
    assert cli.main(["inspect", str(tmp_path / "junk.mp4")]) == ExitStatus.INPUT
    assert cli.main(["inspect", str(tmp_path / "missing.mp4")]) == ExitStatus.INPUT


def test_a_still_of_a_marked_video_is_known(portrait_file: Path, tmp_path: Path) -> None:
    with Image.open(portrait_file) as picture:
        frame = mark(np.asarray(picture.convert("RGB").resize((384, 384))))
    Image.fromarray(frame).save(tmp_path / "still.jpg", quality=80)
    assert inspect_file(tmp_path / "still.jpg").made == ("watermark",)


def test_what_inputs_said_of_themselves_is_kept(tmp_path: Path) -> None:
    sound = tmp_path / "sound.flac"
    tags = ["-metadata", "comment=AI voice = yes", "-metadata", "copyright=Somebody\nElse"]
    make = ["-f", "lavfi", "-i", "sine=duration=0.2", *tags, str(sound)]
    subprocess.run([ffmpeg_binary(), "-v", "error", *make], check=True)
    picture = tmp_path / "picture.png"
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Description", "drawn by a model")
    text.add_itxt("XML:com.adobe.xmp", f'<x Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>')
    Image.new("RGB", (64, 64)).save(picture, pnginfo=text)
    video = film(tmp_path / "out.mp4", tags=made_tags([picture, sound]))
    kept = read_tags(video)
    assert "Made by CyberHost" in kept["comment"]
    for said in ("AI voice = yes", "Somebody Else", "drawn by a model", "trainedAlgorithmicMedia"):
        assert said in kept["description"]
    assert inspect_file(picture).made == ("container",)


def test_the_watermark_of_an_input_is_kept(portrait_file: Path, tmp_path: Path) -> None:
    with Image.open(portrait_file) as whole:
        still = np.asarray(whole.convert("RGB").resize((320, 320)))
    Image.fromarray(mark(still, 7)).save(tmp_path / "marked.png")
    Image.fromarray(still).save(tmp_path / "plain.png")
    inputs = [tmp_path / "marked.png", tmp_path / "plain.png"]
    out = film(tmp_path / "out.mp4", tags=made_tags(inputs, 9), finish=Marks().signing("out.mp4", inputs, 9))
    said = "watermark of CyberHost, run 00000007"
    seen = inspect_file(out)
    assert f"marked.png: {said}" in seen.tags["description"] and "plain.png" not in seen.tags["description"]
    assert seen.runs["container"] == "00000009"
    if available():
        assert seen.credentials is not None and seen.credentials.valid and seen.runs["credentials"] == "00000009"
        assert seen.credentials.ingredients == (f"marked.png ({said})",)
    record = make_record("animate", {}, {"ref": str(inputs[0]), "audio": str(inputs[1])}, {}, {})
    assert [entry["mark"] for entry in record["inputs"].values()] == [said, None]


@C2PA
def test_a_signed_video_holds_until_it_is_changed(tmp_path: Path) -> None:
    signer = open_signer()
    key = next(Path(os.environ["XDG_DATA_HOME"]).rglob("key.pem"), None)
    if key is not None and os.name == "posix":
        assert key.stat().st_mode & 0o777 == 0o600
    assert open_signer() == signer  # made once
    driving = film(tmp_path / "driving.mp4", finish=lambda video: signer.sign(video, "driving.mp4"))
    out = tmp_path / "out.mp4"
    film(out, finish=Marks().signing("out.mp4", [driving, film(tmp_path / "plain.mp4")]))
    seen = inspect_file(out).credentials
    assert seen is not None and seen.valid and not seen.trusted and seen.signer == UNTRUSTED
    assert seen.source_types == ("trainedAlgorithmicMedia",) and seen.ingredients == ("driving.mp4",)
    data = bytearray(out.read_bytes())
    data[data.index(b"mdat") + 40] ^= 1
    out.write_bytes(data)
    changed = inspect_file(out)
    assert changed.credentials is not None and not changed.credentials.valid and "credentials" not in changed.made


@C2PA
def test_the_users_own_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_signer()
    made = next(Path(os.environ["XDG_DATA_HOME"]).rglob("certificate.pem"), None)
    if made is None:
        pytest.skip("another system's data folder")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    shutil.copy(made, chain), shutil.copy(made.with_name("key.pem"), key)
    assert not open_signer(chain, key).local
    monkeypatch.setenv("CYBERHOST_CERTIFICATE", str(chain))
    with pytest.raises(InputError, match="go together"):
        open_signer()
    monkeypatch.setenv("CYBERHOST_PRIVATE_KEY", str(key))
    assert not open_signer().local
    signed = film(tmp_path / "signed.mp4", finish=Marks().signing("signed.mp4"))
    assert read_manifests(signed) is not None
    with pytest.raises(InputError, match="no certificate"):
        open_signer(key, key)
    with pytest.raises(InputError, match="no private key"):
        open_signer(chain, chain)
    shutil.rmtree(made.parent)
    open_signer(Path(chain), Path(key))
    monkeypatch.delenv("CYBERHOST_CERTIFICATE"), monkeypatch.delenv("CYBERHOST_PRIVATE_KEY")
    open_signer()  # another key
    with pytest.raises(InputError, match="not the key"):
        open_signer(chain, made.with_name("key.pem"))


@C2PA
def test_a_certificate_that_cannot_be_read_ends_before_the_work(
    portrait_file: Path, speech: Path, tmp_path: Path
) -> None:
    words = ["animate", str(portrait_file), str(speech), "-o", str(tmp_path / "out.mp4")]
    code = cli.main([*words, "--certificate", str(speech), "--private-key", str(speech)])
    assert code == ExitStatus.INPUT and not (tmp_path / "out.mp4").exists()


def test_without_the_extra_a_video_is_asked_to_be_signed(
    portrait_file: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    words = ["animate", str(portrait_file), str(speech), "-o", str(tmp_path / "out.mp4"), "--c2pa"]
    assert cli.main(words) == ExitStatus.RESOURCE
