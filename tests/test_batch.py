"""`cyberhost batch`: lists of jobs, failures among them, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cyberhost_cli.console import Console
from cyberhost_cli.exit_status import ExitStatus
from cyberhost_cli.generate import Request
from cyberhost_cli.main import main
from cyberhost_cli.options import OutputOptions
from cyberhost_model.config import GenerationConfig, RuntimeConfig
from cyberhost_model.errors import InputError
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.output_form import OutputForm
from cyberhost_model.media.video_reader import stream_frames
from cyberhost_model.runtime.batch import run_jobs
from cyberhost_model.runtime.batch_jobs import BatchJob, read_jobs, watch_folder
from cyberhost_model.runtime.named_job import NamedJob


def write_list(path: Path, *entries: dict[str, Any] | str) -> Path:
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_json_lines(tmp_path: Path) -> None:
    jobs = read_jobs(
        write_list(
            tmp_path / "jobs.jsonl",
            {"picture": "a.png", "audio": "a.wav", "output": "x.mp4", "seed": 3, "body_movement": 0.5},
            "",
            {"command": "reenact", "picture": "a.png", "driving": "b.mp4", "audio": "none", "retarget": False},
            {
                "command": "multimodal",
                "picture": "a.png",
                "audio": "a.wav",
                "hands": "wave",
                "guidance-interval": "0.2,0.8",
            },
        ),
        tmp_path / "videos",
    )
    assert [job.problem for job in jobs] == [None] * 3
    assert jobs[0].inputs == {"picture": tmp_path / "a.png", "audio": tmp_path / "a.wav"}
    assert jobs[0].settings == {"seed": 3, "body_movement": 0.5} and jobs[0].output == tmp_path / "videos/x.mp4"
    assert jobs[1].inputs["audio"] == "none" and jobs[1].output.name == "a-b.mp4"
    assert jobs[2].inputs["hands"] == "wave" and jobs[2].settings["guidance_interval"] == (0.2, 0.8)


@pytest.mark.parametrize(
    ("command", "own", "files", "words"),
    [
        ("animate", {"body_movement": 0.2}, {"ref": "a.png", "audio": "a.wav"}, {"body_movement": 0.2}),
        ("reenact", {"audio": "none", "retarget": True}, {"ref": "a.png", "driving": "b.mp4"}, {"audio": "none"}),
        ("reenact", {"audio": "keep", "retarget": False}, {"ref": "a.png", "driving": "b.mp4"}, {"retarget": False}),
        ("multimodal", {"retarget": True}, {"ref": "a.png", "audio": "a.wav", "hands": "wave"}, {}),
    ],
)
def test_a_job_has_one_number_whoever_asks_for_it(
    command: str, own: dict[str, Any], files: dict[str, str], words: dict[str, Any], tmp_path: Path
) -> None:
    """What the command line says its frames depend on is what a list of jobs says."""
    for name in ("a.png", "a.wav", "b.mp4"):
        (tmp_path / name).write_text(name)
    paths = {name: Path(file) if file == "wave" else tmp_path / file for name, file in files.items()}
    settings, out = GenerationConfig(seed=3, fps=30.0, guidance_interval=(0.2, 0.8)), tmp_path / "out.mp4"
    how = RuntimeConfig(), OutputOptions(), OutputForm(), Marks(), Console()
    typed = Request(paths["ref"], out, settings, *how, command, own, paths)
    entry = {"command": command, **files, **words, "seed": 3, "fps": 30, "guidance-interval": "0.2,0.8"}
    entry["picture"] = entry.pop("ref")
    (listed,) = read_jobs(write_list(tmp_path / "jobs.jsonl", entry))
    host: Any = SimpleNamespace(folder_digest="1", device=SimpleNamespace(type="cpu"), dtype="fp32")
    facts = typed.job().facts(host)
    assert facts is not None and facts == NamedJob(listed.command, listed.inputs, listed.settings).facts(host)
    (tmp_path / "a.png").write_text("another")
    assert typed.job().facts(host) != facts


def test_the_form_of_a_video(tmp_path: Path) -> None:
    """Files of the form are beside the list, as inputs are; a colour is none."""
    (tmp_path / "sea.png").write_text("x")
    base = {"picture": "a.png", "audio": "a.wav"}
    forms = [{"background": "sea.png", "subtitles": "a.srt"}, {"background": "red"}, {"alpha": "yes"}, {"loop": True}]
    entries = [{**base, **form, "output": f"{number}.mp4"} for number, form in enumerate(forms)]
    sea, red, wrong, loop = read_jobs(write_list(tmp_path / "jobs.jsonl", *entries))
    assert sea.form == OutputForm(tmp_path / "a.srt", str(tmp_path / "sea.png"))
    assert red.form == OutputForm(background="red") and not red.settings
    assert wrong.problem is not None and "alpha must be true or false" in wrong.problem
    assert loop.settings == {"loop": True} and loop.problem is None


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("picture,audio,output,seed,blink,size\na.png,a.wav,x.mp4,3,false,\nb.png,b.wav,,,,128\n")
    first, second = read_jobs(path)
    assert first.settings == {"seed": 3, "blink": False} and first.output == tmp_path / "x.mp4"
    assert second.settings == {"size": 128} and second.output == tmp_path / "b-b.mp4"


def test_folder_pairs_by_stem(tmp_path: Path) -> None:
    for name in ("anna.jpg", "anna.wav", "bob.png", "bob.mp3", "carl.png", "dora.wav", "notes.txt", "anna.mp4"):
        (tmp_path / name).write_text("x")
    jobs = read_jobs(tmp_path)
    assert [(j.inputs["picture"].name, j.inputs["audio"].name, j.output.name) for j in jobs] == [
        ("anna.jpg", "anna.wav", "anna.mp4"),
        ("bob.png", "bob.mp3", "bob.mp4"),
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="same name"):
        read_jobs(tmp_path / "empty")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "must be an object"),
        ({"audio": "a.wav"}, "names no picture"),
        ({"picture": "a.png", "audio": 3}, "audio must be the name of a file"),
        ({"picture": "a.png", "audio": "a.wav", "driving": "b.mp4"}, "takes no driving"),
        ({"picture": "a.png", "audio": "a.wav", "sed": 3}, "no option 'sed'"),
        ({"picture": "a.png", "audio": "a.wav", "steps": 0}, "steps must be"),
        ({"picture": "a.png", "audio": "a.wav", "steps": "many"}, "steps must be"),
        ({"picture": "a.png", "audio": "a.wav", "body_movement": 7}, "body_movement must be"),
        ({"picture": "a.png", "audio": "a.wav", "command": "sing"}, "command must be"),
        ({"picture": "a.png", "audio": "a.wav", "output": "\0"}, "output must be"),
        ({"picture": "b.png", "audio": "a.wav", "output": "first.mp4"}, "as line 1 does"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_entry_is_one_failed_job(entry: dict[str, Any] | str, words: str, tmp_path: Path) -> None:
    first = {"picture": "a.png", "audio": "a.wav", "output": "first.mp4"}
    good, bad = read_jobs(write_list(tmp_path / "jobs.jsonl", first, entry))
    assert good.problem is None and bad.problem is not None and words in bad.problem
    assert bad.problem.startswith("line 2") and "\n" not in bad.problem


@pytest.mark.parametrize("name", ["gone.jsonl", "jobs.txt", "empty.jsonl", "bytes.csv"])
def test_a_list_that_cannot_be_read_ends_with_3(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for made, content in (("jobs.txt", b"x"), ("empty.jsonl", b"\n\n"), ("bytes.csv", b"\xff\xfe\x00")):
        (tmp_path / made).write_bytes(content)
    assert main(["batch", str(tmp_path / name)]) == ExitStatus.INPUT
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def listed(tmp_path: Path, portrait_file: Path, picture_file: Path, tone) -> Path:
    """Two jobs that can be made, one without a face, one without a sound and one that is no job."""
    common = {"steps": 1, "size": 256}
    return write_list(
        tmp_path / "jobs.jsonl",
        {"picture": str(portrait_file), "audio": str(tone("a.wav", seconds=0.1)), "output": "a.mp4", **common},
        {"picture": str(picture_file), "audio": str(tone("b.wav", seconds=0.1)), "output": "b.mp4", **common},
        {"picture": str(portrait_file), "audio": "none.wav", "output": "c.mp4", **common},
        "nonsense",
        {"picture": str(portrait_file), "audio": str(tone("d.wav", seconds=0.2)), "output": "d.mp4", **common},
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_failures_do_not_stop_the_rest(
    workers: str, loaded_once, listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["batch", str(listed), "-o", str(tmp_path / "videos"), "--json", "--workers", workers, "--device", "cpu"]
    assert main(call) == ExitStatus.BATCH
    *lines, sums = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_place = {line["place"]: (line["status"], line["code"]) for line in lines}
    assert by_place == {
        "line 1": ("done", 0),
        "line 2": ("failed", ExitStatus.NO_FACE),
        "line 3": ("failed", ExitStatus.INPUT),
        "line 4": ("failed", ExitStatus.INPUT),
        "line 5": ("done", 0),
    }
    assert {k: sums[k] for k in ("done", "skipped", "failed", "jobs")} == {
        "done": 2, "skipped": 0, "failed": 3, "jobs": 5,
    }  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "videos").iterdir()) == ["a.mp4", "d.mp4"]


def test_what_exists_is_skipped(listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_ = listed.read_text().splitlines()
    listed.write_text(first + "\n")
    (tmp_path / "a.mp4").write_text("made before")
    assert main(["batch", str(listed), "--json"]) == ExitStatus.OK  # without loading a model
    job, sums = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert job["status"] == "skipped" and sums["skipped"] == 1
    assert (tmp_path / "a.mp4").read_text() == "made before"


def test_a_job_is_plain_data() -> None:
    import pickle

    job = BatchJob("line 1", Path("a.mp4"), inputs={"picture": Path("a.png")})
    assert pickle.loads(pickle.dumps(job)) == job  # it goes to other processes


def test_a_watched_folder_gives_pairs_once_they_are_whole(tmp_path: Path) -> None:
    (tmp_path / "anna.jpg").write_text("x")
    (tmp_path / "anna.wav").write_text("")  # a copy that has begun
    pairs = watch_folder(tmp_path, tmp_path / "out", every=0.0)
    assert [next(pairs) for _ in range(3)] == [None] * 3
    (tmp_path / "anna.wav").write_text("ha")
    assert next(pairs) is None  # seen for the first time
    (tmp_path / "anna.wav").write_text("half and more")
    assert next(pairs) is None  # it grew
    job = next(pairs)
    assert job is not None and job.output == tmp_path / "out" / "anna.mp4"
    assert [next(pairs) for _ in range(3)] == [None] * 3
    for name in ("bob.png", "bob.wav"):
        (tmp_path / name).write_text("x")
    assert [next(pairs) for _ in range(2)][0] is None
    (tmp_path / "anna.wav").write_text("another sound")
    found = [next(pairs) for _ in range(4)]
    assert [job.place for job in found if job] in (["anna.jpg"], ["bob.png", "anna.jpg"])


def test_a_list_is_watched_by_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = write_list(tmp_path / "jobs.jsonl", "nonsense")
    assert main(["batch", str(listed), "--watch"]) == ExitStatus.USAGE
    assert main(["batch", str(listed), "--address", "auto"]) == ExitStatus.USAGE
    assert main(["batch", str(listed), "--engine", "moon"]) == ExitStatus.USAGE
    capsys.readouterr()


@pytest.mark.parametrize("workers", [1, 2])
def test_moments_without_a_job_are_waited_through(tmp_path: Path, workers: int) -> None:
    wrong = [BatchJob(f"line {i}", Path(), problem="no job") for i in range(3)]
    made = run_jobs(iter([None, wrong[0], None, None, *wrong[1:]]), RuntimeConfig(), workers=workers)
    assert [result.place for result in made] == ["line 0", "line 1", "line 2"]


def test_ray_makes_what_this_process_makes(
    loaded_once, listed: Path, ray_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for engine, address in (("local", []), ("ray", ["--address", ray_address])):
        call = ["batch", str(listed), "-o", str(tmp_path / engine), "--json", "--device", "cpu"]
        assert main([*call, "--engine", engine, *address]) == ExitStatus.BATCH
        *lines, _ = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        status = {line["place"]: (line["status"], line["code"]) for line in lines}
        found[engine] = status, [[*stream_frames(tmp_path / engine / name)] for name in ("a.mp4", "d.mp4")]
    assert found["local"][0] == found["ray"][0]
    for here, there in zip(found["local"][1], found["ray"][1], strict=True):
        assert len(here) == len(there) > 0 and all(map(np.array_equal, here, there))
