"""A model travels: pushed by one machine, loaded by its Hub id on another, through the command line and Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cyberhost_cli.main import main
from cyberhost_model import CyberHost, ModelError, NetworkError, OutputError
from cyberhost_model.runtime.loading import find_model, load_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder as training leaves it: the embedded model without its card."""
    copy = tmp_path / "mine"
    shutil.copytree(find_model("tiny"), copy)
    (copy / "README.md").unlink()
    (copy / "optimizer.pt").write_bytes(b"a pickle")
    return copy


def test_push_then_load_by_its_id(hub, folder, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert main(["weights", "push", str(folder), "me/speaker"]) == 6
    assert "has no README.md; name the licence" in capsys.readouterr().err
    assert main(["weights", "push", str(folder), "me/speaker", "--licence", "apache-2.0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    repo = hub.repos["model", "me/speaker"]
    assert said == {"repo": "me/speaker", "commit": f"{hub.url}/me/speaker/commit/{repo.commit}"}
    assert set(repo.files) == {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {
        "optimizer.pt"
    }
    assert repo.files["network.safetensors"] == (folder / "network.safetensors").read_bytes()

    shutil.rmtree(folder)
    model = load_model("me/speaker")
    tiny = load_model("tiny")
    ours, theirs = (m.network.state_dict() for m in (model, tiny))
    assert all((ours[key] == theirs[key]).all() for key in theirs)
    at_a_commit = find_model(f"me/speaker@{repo.commit}")
    assert at_a_commit == find_model("me/speaker") and main(["weights", "pull", "me/speaker", "--quiet"]) == 0


def test_the_card_says_what_the_folder_is(hub, folder, monkeypatch):
    from huggingface_hub import ModelCard

    monkeypatch.setenv("HF_TOKEN", "hf_good")
    sources = [
        {"part": "codec", "from": "lab/vae", "revision": "a" * 40, "licence": "MIT", "commercial": True},
        {
            "part": "face",
            "from": "https://example.org/face",
            "revision": None,
            "licence": "research only",
            "commercial": False,
        },
    ]
    (folder / "sources.json").write_text(json.dumps(sources))
    assert main(["weights", "push", str(folder), "me/speaker", "--licence", "cc-by-nc-4.0", "--quiet"]) == 0
    card = ModelCard((folder / "README.md").read_text())
    assert (
        card.data.license == "cc-by-nc-4.0"
        and card.data.library_name == "cyberhost"
        and card.data.base_model == ["lab/vae"]
    )
    for line in (
        "--model me/speaker",
        'from_pretrained("me/speaker")',
        "| codec | lab/vae@aaaaaaaa | MIT |",
        "**Not for commercial use**",
        "predicts `x0`",
    ):
        assert line in card.text
    row = next(line for line in card.text.splitlines() if line.startswith("| network.safetensors |"))
    parameters = sum(p.numel() for p in load_model("tiny").network.state_dict().values())
    assert f"| {parameters:,} |" in row
    (folder / "README.md").write_text("---\nlicense: mit\n---\nmine\n")  # a card of one's own stays
    assert main(["weights", "push", str(folder), "me/speaker", "--quiet"]) == 0
    assert hub.repos["model", "me/speaker"].files["README.md"].endswith(b"mine\n")


def test_a_loaded_model_is_pushed_and_loaded_by_huggingface_s_names(hub, folder, tmp_path, monkeypatch):
    """`push_to_hub` and `from_pretrained`, with tokens, revisions and what is cached; file by file the same."""
    from huggingface_hub import ModelCard

    host = CyberHost.from_pretrained(folder, device="cpu")
    with pytest.raises(ModelError, match="name the licence"):
        host.push_to_hub("me/speaker", token="hf_good")
    address = host.push_to_hub("me/speaker", licence="mit", commit_message="mine", token="hf_good")
    repo = hub.repos["model", "me/speaker"]
    assert address == f"{hub.url}/me/speaker/commit/{repo.commit}"
    assert repo.files["network.safetensors"] == (folder / "network.safetensors").read_bytes()
    assert "README.md" in repo.files and not (folder / "README.md").exists() and "optimizer.pt" not in repo.files
    data = ModelCard(repo.files["README.md"].decode()).data
    assert data.pipeline_tag == "image-to-video" and {"audio-to-video", "talking-head", "lip-sync"} <= set(data.tags)

    repo.private = True
    with pytest.raises(ModelError, match="me/speaker may not be fetched"):
        CyberHost.from_pretrained("me/speaker", device="cpu")
    with pytest.raises(NetworkError, match="local_files_only forbids"):
        CyberHost.from_pretrained("me/speaker", device="cpu", local_files_only=True)
    again = CyberHost.from_pretrained("me/speaker", device="cpu", revision=repo.commit, token="hf_good")
    asked = len(hub.requests)
    assert CyberHost.from_pretrained("me/speaker", "cpu", revision=repo.commit, local_files_only=True)
    assert len(hub.requests) == asked
    kept = again.save_pretrained(tmp_path / "kept")
    assert (kept / "network.safetensors").read_bytes() == repo.files["network.safetensors"]
    assert (kept / "codec/config.json").is_file() and not (kept / "network.safetensors").is_symlink()
    with pytest.raises(OutputError, match="exists; give a new folder"):
        again.save_pretrained(tmp_path / "kept")


def test_what_cannot_be_published(hub, folder, tmp_path, capsys, monkeypatch):
    push = ["weights", "push", str(folder), "me/speaker", "--licence", "mit"]
    assert main(push) == 6
    assert (
        "me/speaker may not be published (401); check the name, or log in with `hf auth login`"
        in capsys.readouterr().err
    )
    assert main(["weights", "push", str(tmp_path), "me/speaker"]) == 6
    assert "not a cyberhost model directory" in capsys.readouterr().err
    assert main(["weights", "push", str(folder), "speaker"]) == 6
    assert "'speaker' is no Hub id" in capsys.readouterr().err
    weights = (folder / "network.safetensors").read_bytes()
    (folder / "network.safetensors").write_bytes(weights[: len(weights) // 2])
    assert main(push) == 6
    assert "network.safetensors is missing or damaged" in capsys.readouterr().err
    (folder / "network.safetensors").write_bytes((folder / "codec/model.safetensors").read_bytes())
    assert main(push) == 6
    assert "does not fit its config.json" in capsys.readouterr().err
    (folder / "network.safetensors").write_bytes(weights)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert main(push) == 7
    assert "me/speaker could not be published" in capsys.readouterr().err


def test_ids_that_are_no_models(hub, capsys, portrait_file, speech_file, tmp_path):
    hub.add("user/other", {"config.json": b"{}", "model.safetensors": b"0" * 10})
    hub.add("user/empty", {"notes.txt": b""})
    animate = ["animate", str(portrait_file), str(speech_file), "-o", str(tmp_path / "out.mp4"), "--model"]
    for name, code, words in (
        ("user/empty", 6, "holds no config.json; it is no model of cyberhost"),
        ("user/other", 6, "is not of format 1"),
        ("user/nothing", 6, "user/nothing"),
        ("user/a/b", 6, "there is no model 'user/a/b'"),
        ("user/with space", 6, "is no Hub id"),
        ("user/other@", 6, "is no Hub id"),
    ):
        assert main([*animate, name]) == code, name
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1, said
