"""`cyberhost weights list`, `pull`, `verify`, `path`: what they say and with which code they end."""

from __future__ import annotations

import json

import pytest
from hub_server import BODY, Fault

from cyberhost_cli.main import main
from cyberhost_model.hub.cache import downloads_folder, repository_folder


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict:
    assert main(["weights", *words, "--json"]) == code
    out = capsys.readouterr().out
    return json.loads(out) if out else {}


def test_list_tells_what_is_here(known, capsys):
    before = said(capsys, "list")
    assert [(w["name"], w["here"], w["licence"], w["commercial"]) for w in before["weights"]] == [
        ("pair", False, "MIT", True),
        ("net", False, "research only", False),
    ]
    assert before["groups"]["both"] == ["pair", "net"] and not known.requests
    assert main(["weights", "pull", "both"]) == 0
    told = capsys.readouterr()
    assert (
        told.out == ""
        and "net: research only; not for commercial use" in told.err
        and f"net: {downloads_folder() / 'net'}" in told.err
    )
    after = said(capsys, "list", "pair")
    assert [w["here"] for w in after["weights"]] == [True] and all(f["here"] for f in after["weights"][0]["files"])
    assert main(["weights", "list", "net"]) == 0
    line = capsys.readouterr().out
    assert line.split()[:4] == ["net", "26", "KB", "here"] and "one file" in line
    assert main(["weights", "list", "other"]) == 6
    assert "no weights 'other'" in capsys.readouterr().err


def test_path_prints_and_never_fetches(known, capsys):
    assert main(["weights", "path", "model.bin"]) == 6
    assert "`cyberhost weights pull pair` fetches it" in capsys.readouterr().err and not known.requests
    said(capsys, "pull", "pair")
    assert main(["weights", "path", "model.bin"]) == 0
    assert capsys.readouterr().out.strip().endswith("a/model.bin")
    assert said(capsys, "path", "pair")["path"].endswith("/a")


def test_verify_finds_what_was_damaged(known, capsys):
    assert said(capsys, "verify") == {"files": [], "removed": False}  # nothing was fetched, nothing is missing
    said(capsys, "pull", "both")
    states = {row["file"]: row["state"] for row in said(capsys, "verify")["files"]}
    assert states == {"a/config.json": "right", "a/model.bin": "right", "net.pth": "right"}
    for damaged in (
        downloads_folder() / "net/net.pth",
        next((repository_folder("lab/pair") / "snapshots").rglob("config.json")).resolve(),
    ):
        damaged.write_bytes(b"!" + damaged.read_bytes()[1:])
    found = said(capsys, "verify", code=6)["files"]
    assert {row["file"]: row["state"] for row in found} == {**states, "a/config.json": "wrong", "net.pth": "wrong"}
    assert main(["weights", "verify", "both", "--remove"]) == 6
    err = capsys.readouterr().err
    assert "2 of 3 files damaged, such as pair a/config.json; `cyberhost weights pull` fetches it again" in err
    assert main(["weights", "verify", "net"]) == 6 and "1 of 1 files missing" in capsys.readouterr().err
    said(capsys, "pull", "both")
    assert said(capsys, "verify")["files"] and (downloads_folder() / "net/net.pth").read_bytes() == BODY


def test_verify_knows_models_on_the_hub(known, capsys):
    known.add("user/model", {"config.json": b"{}", "network.safetensors": BODY})
    assert main(["weights", "verify", "user/model"]) == 6
    assert "user/model is not on this machine" in capsys.readouterr().err
    said(capsys, "pull", "user/model")
    assert {row["file"]: row["state"] for row in said(capsys, "verify", "user/model")["files"]} == {
        "config.json": "right",
        "network.safetensors": "right",
    }


@pytest.mark.parametrize(("status", "code"), [(429, 7), (503, 7), (403, 6), (404, 6)])
def test_a_refusal_is_one_line_and_a_code(known, capsys, status, code):
    known.faults.append(Fault("/api/", status=status))
    assert main(["weights", "pull", "pair"]) == code
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("cyberhost: pair") and str(status) in err[-1] and len(err) == 2  # the licence, and why


def test_quiet_says_nothing_and_the_licence_is_still_owed(known, capsys):
    assert main(["weights", "pull", "net", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    (downloads_folder() / "net/net.pth").unlink()
    assert main(["weights", "pull", "net"]) == 0
    assert "not for commercial use" in capsys.readouterr().err
