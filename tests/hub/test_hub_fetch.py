"""Fetching against a server that speaks the Hub's protocol, and fails as networks do."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import Fault, Hub

from cyberhost_model.errors import ModelError, NetworkError, OutputError
from cyberhost_model.hub import download
from cyberhost_model.hub.cache import cached_snapshot, is_commit, repository_folder
from cyberhost_model.hub.progress import Reporter, reporting
from cyberhost_model.hub.repository import fetch

BIG = bytes(range(256)) * 1024  # 256 KiB, kept on the cdn
FILES = {"config.json": b"{}", "part/model.safetensors": BIG, "part/other.bin": b"x" * 2000}
WANTED = ["config.json", "part/model.safetensors"]


@pytest.fixture
def repo(hub: Hub):
    return hub.add("user/name", dict(FILES))


def whole(folder: Path) -> bool:
    return all((folder / name).read_bytes() == FILES[name] for name in WANTED)


def leftovers(repo_id: str = "user/name") -> list[str]:
    return [path.name for path in (repository_folder(repo_id) / "blobs").glob("*.incomplete")]


def test_what_is_wanted_arrives_in_the_shared_cache_and_nothing_else(hub, repo):
    seen = []
    with reporting(Reporter(progress=lambda *told: seen.append(told))):
        folder = fetch("user/name", WANTED)
    assert whole(folder) and not (folder / "part/other.bin").exists()
    assert folder == repository_folder("user/name") / "snapshots" / repo.commit
    from huggingface_hub import try_to_load_from_cache

    assert try_to_load_from_cache("user/name", "part/model.safetensors", revision=repo.commit) == str(
        folder / "part/model.safetensors"
    )
    total = len(BIG) + 2
    assert seen[-1] == ("user/name", total, total) and [done for _, done, _ in seen] == sorted(
        done for _, done, _ in seen
    )
    asked = len(hub.requests)
    assert (
        fetch("user/name", WANTED, revision=repo.commit) == folder and len(hub.requests) == asked
    )  # a commit asks nobody
    assert (
        fetch("user/name", WANTED) == folder and len(hub.gets()) == 1
    )  # main is looked up, and nothing is fetched again


def test_main_moves_on(hub, repo):
    first = fetch("user/name", WANTED)
    repo.files["config.json"] = b"{ }"
    second = fetch("user/name", WANTED)
    assert (second / "config.json").read_bytes() == b"{ }" and (first / "config.json").read_bytes() == b"{}"
    assert len(hub.gets()) == 1  # the large file is shared


def test_a_cut_connection_is_taken_up_where_it_broke(hub, repo):
    hub.faults.append(Fault("/cdn/", times=3, cut=50_000))
    assert whole(fetch("user/name", WANTED))
    assert [r.range for r in hub.gets()] == [None, "bytes=50000-", "bytes=100000-", "bytes=150000-"]


def test_a_line_that_breaks_every_few_megabytes_loses_nothing(hub):
    """Every byte is sent once, though no connection lives for 10 MiB, and the last one sends bytes in dribs."""
    data, step = bytes(range(256)) * (1 << 16), 3_000_001  # 16 MiB
    hub.add("user/large", {"model.safetensors": data})
    hub.faults += [Fault("/cdn/", times=3, cut=step), Fault("/cdn/", times=1, cut=777), Fault("/cdn/", times=1, cut=0)]
    folder = fetch("user/large", ["model.safetensors"])
    assert (folder / "model.safetensors").read_bytes() == data
    begun = [int(r.range.removeprefix("bytes=")[:-1]) if r.range else 0 for r in hub.gets()]
    assert begun == [0, step, 2 * step, 3 * step, 3 * step + 777, 3 * step + 777]


def test_an_empty_file_is_a_file(hub):
    hub.add("user/empty", {"config.json": b"{}", "notes.json": b""})
    assert (fetch("user/empty", ["*.json"]) / "notes.json").read_bytes() == b""


def test_a_fetch_that_failed_goes_on_in_another_one(hub, repo):
    hub.faults += [Fault("/cdn/", times=1, cut=100_000), Fault("/cdn/", cut=0)]
    with pytest.raises(NetworkError, match="user/name could not be fetched .*goes on where it stopped") as caught:
        fetch("user/name", WANTED)
    assert "\n" not in str(caught.value) and leftovers()
    hub.faults.clear()
    assert whole(fetch("user/name", WANTED)) and not leftovers()
    assert hub.gets()[-1].range == "bytes=100000-"


def test_a_server_that_ignores_ranges_sends_all_of_it_again(hub, repo):
    hub.faults += [Fault("/cdn/", times=1, cut=100_000), Fault("/cdn/", deaf=True)]
    assert whole(fetch("user/name", WANTED))


def test_what_lay_there_of_another_file_is_thrown_away_once(hub, repo):
    fetch("user/name", ["config.json"])
    part = download.partial_path(repository_folder("user/name") / "blobs" / hashlib.sha256(BIG).hexdigest())
    part.write_bytes(b"nonsense" * 1000)
    assert whole(fetch("user/name", WANTED))
    assert [r.range for r in hub.gets()] == ["bytes=8000-", None]


def test_a_wrong_checksum_leaves_nothing_behind(hub, repo):
    hub.faults.append(Fault("/cdn/", corrupt=True))
    with pytest.raises(NetworkError, match="is not the file .checksum .* expected .*removed"):
        fetch("user/name", WANTED)
    assert not leftovers() and cached_snapshot(repository_folder("user/name"), WANTED) is None
    hub.faults.clear()
    assert whole(fetch("user/name", WANTED))


def test_a_file_other_than_the_registry_knows_is_not_fetched(hub, repo):
    with pytest.raises(NetworkError, match="another file than this version of cyberhost knows"):
        fetch("user/name", WANTED, sha256={"part/model.safetensors": "0" * 64})
    assert not hub.gets()


@pytest.mark.parametrize(
    ("setup", "error", "message"),
    [
        ({"status": 429, "headers": {"Retry-After": "7"}}, NetworkError, "too many requests .429.; try again in 7 s"),
        ({"status": 429}, NetworkError, "try again later"),
        ({"status": 503}, NetworkError, "the server failed .503.; try again later"),
        ({"status": 403}, ModelError, "may not be fetched .403.; .*hf auth login"),
        ({"status": 404}, ModelError, "does not exist .404."),
    ],
)
@pytest.mark.parametrize("where", ["/api/models", "/cdn/"])
def test_what_the_server_says_in_one_line(hub, repo, where, setup, error, message):
    hub.faults.append(Fault(where, **setup))
    with pytest.raises(error, match=message) as caught:
        fetch("user/name", WANTED)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("user/name")


@pytest.mark.skipif(huggingface_hub.__version__ < "1", reason="huggingface_hub waits since 1.0")
def test_a_busy_server_is_waited_for(hub, repo):
    hub.faults.append(Fault("/cdn/", times=2, status=429, headers={"Retry-After": "1"}))
    assert whole(fetch("user/name", WANTED))


def test_names_that_are_not_there(hub, repo):
    with pytest.raises(ModelError, match="nobody/none"):
        fetch("nobody/none", WANTED)
    with pytest.raises(ModelError, match="holds no absent.bin"):
        fetch("user/name", ["absent.bin"])
    with pytest.raises(ModelError, match="does not exist .404.; check the name and the revision"):
        fetch("user/name", WANTED, revision="v9")


def test_gated_and_private_repositories_need_a_token(hub, monkeypatch):
    hub.add("user/gated", dict(FILES), gated=True)
    hub.add("user/private", dict(FILES), private=True)
    with pytest.raises(ModelError, match="user/gated is gated; accept its terms .*HF_TOKEN"):
        fetch("user/gated", WANTED)
    with pytest.raises(ModelError, match="user/private may not be fetched .401."):
        fetch("user/private", WANTED)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert whole(fetch("user/gated", WANTED)) and whole(fetch("user/private", WANTED))
    assert {r.token for r in hub.gets()} == {None}  # the token stays with the Hub


def test_a_slow_server(hub, repo, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    hub.faults.append(Fault("/cdn/", slow=30))
    with pytest.raises(NetworkError, match="too slow; raise HF_HUB_DOWNLOAD_TIMEOUT"):
        fetch("user/name", WANTED)


def test_without_a_network_the_cache_serves(hub, repo, monkeypatch):
    folder = fetch("user/name", WANTED)
    hub.faults.append(Fault("", cut=0, methods=("GET", "HEAD")))
    assert fetch("user/name", WANTED) == folder
    with pytest.raises(NetworkError, match="could not be fetched"):
        fetch("user/name", ["part/other.bin"])
    hub.faults[:] = [Fault("/api/", status=503)]
    assert fetch("user/name", WANTED) == folder
    hub.faults[:] = [Fault("/api/", status=404)]  # gone is gone, not unreachable
    with pytest.raises(ModelError, match="404"):
        fetch("user/name", WANTED)


def test_patterns_and_a_fetch_that_was_interrupted(hub, repo, monkeypatch):
    """What arrived first is not taken for all of it, neither for a commit nor without a network."""
    everything = ["*.json", "*.safetensors"]
    hub.faults.append(Fault("/cdn/", cut=0))
    with pytest.raises(NetworkError):
        fetch("user/name", everything)
    assert list((repository_folder("user/name") / "snapshots" / repo.commit).iterdir())
    for revision in (None, repo.commit):
        with pytest.raises(NetworkError):
            fetch("user/name", everything, revision=revision)
    hub.faults[:] = [Fault("", status=503)]
    with pytest.raises(NetworkError):
        fetch("user/name", everything)
    hub.faults.clear()
    folder = fetch("user/name", everything, revision=repo.commit)
    assert whole(folder) and not (folder / "part/other.bin").exists()
    asked = len(hub.requests)
    assert fetch("user/name", everything, revision=repo.commit) == folder and len(hub.requests) == asked


def test_what_another_program_cached_serves_too(hub, repo):
    from huggingface_hub import hf_hub_download

    path = hf_hub_download("user/name", "part/model.safetensors")
    asked = len(hub.gets())
    assert (fetch("user/name", ["part/model.safetensors"]) / "part/model.safetensors").samefile(path) and len(
        hub.gets()
    ) == asked
    shutil.rmtree(repository_folder("user/name") / "cyberhost")
    hub.faults.append(Fault("/api/", status=503))
    assert (fetch("user/name", ["*.safetensors"]) / "part/model.safetensors").samefile(path)


@pytest.mark.parametrize(
    "path", ["../../outside.json", "/etc/outside.json", "a/../../outside.json", "a\\..\\outside.json"]
)
def test_a_listing_cannot_lead_out_of_the_cache(hub, tmp_path, path):
    hub.add("user/name", {path: b"{}"})
    with pytest.raises(NetworkError, match="does not list its files as a Hub does"):
        fetch("user/name", ["*.json"])
    assert not list(tmp_path.rglob("*outside*"))


def test_no_room_is_told_before_anything_is_fetched(hub, repo, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(
        OutputError, match=r"262 KB are needed in .* and its disk has 1 KB free; free some, or set HF_HOME"
    ):
        fetch("user/name", WANTED)
    assert not hub.gets()


_LIMITED = """
import resource, sys
from cyberhost_model.errors import CyberHostError
from cyberhost_model.hub.repository import fetch
if sys.argv[1] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
try:
    print(fetch("user/name", ["part/model.safetensors"]))
except CyberHostError as error:
    sys.exit(f"{error.exit_code} {error}")
"""


def test_a_disk_that_fills_up_meanwhile(hub, repo, elsewhere, python):
    """The kernel refuses to let the file grow, as it does on a full disk or a quota; what is there is not thrown
    away.
    """
    run = [python, "-c", _LIMITED]
    stopped = subprocess.run([*run, "100000"], env=elsewhere, capture_output=True, text=True)
    assert stopped.returncode == 1 and re.match(
        r"5 the disk of \S+ is full; free 262 KB", stopped.stderr.splitlines()[-1]
    ), stopped.stderr
    went_on = subprocess.run([*run, "0"], env=elsewhere, capture_output=True, text=True)
    assert went_on.returncode == 0 and (Path(went_on.stdout.strip()) / "part/model.safetensors").read_bytes() == BIG
    assert hub.gets()[-1].range == "bytes=100000-"


def test_two_processes_at_once_fetch_it_once(hub, repo, elsewhere, python):
    hub.faults.append(Fault("/cdn/", times=1, slow=1.5))
    both = [
        subprocess.Popen([python, "-c", _LIMITED, "0"], env=elsewhere, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = {Path(process.communicate(timeout=600)[0].strip()) for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(folders) == 1 and (folders.pop() / "part/model.safetensors").read_bytes() == BIG
    assert len(hub.gets()) == 1 and not list(Path(elsewhere["HF_HOME"]).rglob("*.incomplete"))


def test_offline_and_endpoint_are_those_of_the_environment(hub, repo, elsewhere, python):
    run = [python, "-c", _LIMITED, "0"]
    offline = subprocess.run(run, env={**elsewhere, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert (
        offline.returncode == 1
        and "7 user/name cannot be fetched: HF_HUB_OFFLINE is set" in offline.stderr
        and not hub.requests
    )
    online = subprocess.run(run, env=elsewhere, capture_output=True, text=True)
    assert online.stdout.startswith(elsewhere["HF_HOME"])
    again = subprocess.run(
        run,
        env={**elsewhere, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
    )
    assert again.stdout == online.stdout


def test_a_proxy_of_the_environment_is_used(hub, repo, elsewhere, python):
    """The endpoint does not exist; a proxy that does answers for it."""
    env = {**elsewhere, "HF_ENDPOINT": "http://hub.invalid", "http_proxy": hub.url, "no_proxy": "127.0.0.1"}
    run = subprocess.run([python, "-c", _LIMITED, "0"], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert any(r.path.startswith("/api/models/user/name") for r in hub.requests)


def test_digests_of_both_kinds(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"hello\n")
    assert download.digest_of(file, "0" * 64) == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert download.digest_of(file, "0" * 40) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert is_commit("a" * 40) and not is_commit("main")
