"""The web interface: a video from request to file, everything that is refused, limits, restarts, who may ask."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving_helpers import frames_digest, wait_for

from cyberhost_model.config import RuntimeConfig
from cyberhost_model.errors import ModelError, NoFaceError, OutputError
from cyberhost_model.marks.inspection import inspect_file
from cyberhost_model.marks.marking import Marks
from cyberhost_model.media.ffmpeg import ffmpeg_binary
from cyberhost_model.media.output_form import OutputForm
from cyberhost_model.media.video_reader import probe_video, read_frames
from cyberhost_model.serving.failures import RequestFailed, failure_of
from cyberhost_model.serving.making import form_of
from cyberhost_model.serving.server import served_model
from cyberhost_model.serving.store import IN_PROGRESS, JobStore
from cyberhost_model.serving.uploads import check_together


def one_colour(colour: str) -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(picture, "png")
    return picture.getvalue()


SMALL = {"steps": "1", "size": "256", "seed": "7"}


def test_a_video_is_that_of_animate(real, served, files, finished, host, portrait_file, tmp_path) -> None:
    job = real.post("/v1/videos", files=files, data={**SMALL, "blink": "no", "body_movement": "0.5"}).json()
    assert job["object"] == "video" and job["status"] in ("queued", "in_progress") and job["seconds"] == "0.20"
    done = finished(real, job["id"])
    assert (done["status"], done["progress"], done["error"], done["frames"]) == ("completed", 100, None, 5)
    assert done["size"] == "256x256" and done["seed"] == 7 and done["expires_at"] > done["completed_at"]
    answer = real.get(f"/v1/videos/{job['id']}/content")
    assert answer.headers["content-type"] == "video/mp4"
    (tmp_path / "served.mp4").write_bytes(answer.content)
    options = {"steps": 1, "size": 256, "seed": 7, "blink": False, "body_movement": 0.5}
    host.animate(portrait_file, tmp_path / "speech.wav", **options).save(
        tmp_path / "own.mp4", marks=Marks(watermark=False)
    )
    assert frames_digest(tmp_path / "served.mp4") == frames_digest(tmp_path / "own.mp4")
    assert inspect_file(tmp_path / "served.mp4").made == inspect_file(tmp_path / "own.mp4").made != []
    assert wait_for(lambda: served.left == ["video.mp4"])  # picture and sound are removed
    words = shlex.split(done["command"])
    assert words[:6] == ["cyberhost", "animate", "anna.jpg", "hello.wav", "-o", "video.mp4"]
    assert {"--no-blink", "--seed", "--steps", "--size", "--body-movement"} <= set(words) and "--model" not in words
    assert real.delete(f"/v1/videos/{job['id']}").json()["deleted"] is True
    assert real.get(f"/v1/videos/{job['id']}").status_code == 404 and served.left == []


def test_a_gesture_another_background_and_subtitles(real, files, finished, tmp_path: Path) -> None:
    files["subtitles"] = ("hello.deu.srt", b"1\n00:00:00,000 --> 00:00:00,150\nHallo\n")
    files["background_reference"] = ("blue", one_colour("blue"))
    job = real.post("/v1/videos", files=files, data={**SMALL, "gesture": "wave", "loop": "no"}).json()
    assert finished(real, job["id"])["status"] == "completed"
    words = "multimodal anna.jpg --audio hello.wav --hands wave --background ./blue --subtitles hello.deu.srt"
    assert words in job["command"]
    (tmp_path / "a.mp4").write_bytes(real.get(f"/v1/videos/{job['id']}/content").content)
    told = subprocess.run([ffmpeg_binary(), "-i", tmp_path / "a.mp4"], capture_output=True, text=True, timeout=60)
    assert "(deu): Subtitle: mov_text" in told.stderr
    frame = next(iter(read_frames(probe_video(tmp_path / "a.mp4"))))[0]
    assert np.abs(frame[:16, :16].astype(int) - (0, 0, 255)).mean() < 8
    assert np.abs(frame[100:140, 120:136].astype(int) - (0, 0, 255)).mean() > 60  # the face


def test_without_a_background_it_is_a_webm_and_a_loop_has_its_length(real, served, files, finished, tmp_path) -> None:
    answer = real.post("/v1/videos/sync", files=files, data={**SMALL, "alpha": "yes"})
    assert answer.status_code == 200 and answer.headers["content-type"] == "video/webm"
    assert answer.headers["content-disposition"].endswith('.webm"')
    (tmp_path / "a.webm").write_bytes(answer.content)
    told = subprocess.run([ffmpeg_binary(), "-i", tmp_path / "a.webm"], capture_output=True, text=True, timeout=60)
    assert "vp9" in told.stderr and re.search(r"alpha_mode *: 1", told.stderr, re.IGNORECASE)
    done = finished(real, real.post("/v1/videos", files=files, data={**SMALL, "loop": "yes"}).json()["id"])
    assert done["error"] == {"code": "input", "message": "a loop must last 0.96 s at least, not 0.20 s"}
    assert "--loop" in done["command"] and wait_for(lambda: served.left == [])


@pytest.mark.parametrize(("given", "flag", "asked"), [("no", "--no-gestures", False), ("yes", "--gestures", True)])
def test_hands_gesture_or_do_not(given, flag, asked, real, files, finished, host, monkeypatch) -> None:
    found, animate_reference = [], host.animate_reference

    def noting(reference, config, sound, body_movement, gestures, warnings, loop):
        found.append(gestures)
        return animate_reference(reference, config, sound, body_movement, gestures, warnings, loop)

    monkeypatch.setattr(host, "animate_reference", noting)
    done = finished(real, real.post("/v1/videos", files=files, data={**SMALL, "gestures": given}).json()["id"])
    assert done["status"] == "completed" and flag in shlex.split(done["command"]) and found == [asked]


def test_a_picture_without_a_face_fails_in_one_line(real, served, files, finished, picture_file: Path) -> None:
    files["image_reference"] = ("garden.png", picture_file.read_bytes())
    done = finished(real, real.post("/v1/videos", files=files, data=SMALL).json()["id"])
    assert done["status"] == "failed" and done["error"]["code"] == "no_face"
    assert "no face found in image_reference" in done["error"]["message"] and str(served.folder) not in str(done)
    assert wait_for(lambda: served.left == [])
    content = real.get(f"/v1/videos/{done['id']}/content")
    assert content.status_code == 409 and content.json()["error"]["code"] == "not_completed"
    sync = real.post("/v1/videos/sync", files=files, data=SMALL)
    assert sync.status_code == 422 and sync.json()["error"]["code"] == "no_face"


def test_the_answer_can_be_waited_for(served, held, files) -> None:
    held.go.set()
    client = served(held)
    answer = client.post("/v1/videos/sync", files=files)
    assert answer.status_code == 200 and answer.content == answer.headers["x-video-id"].encode()
    assert wait_for(lambda: served.left == []) and served.queue.store.get(answer.headers["x-video-id"]) is None


SCRIPT = b"ffconcat version 1.0\nfile /etc/hostname\n"
PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"
WRONG: list[tuple[dict[str, Any], dict[str, str], int, str, str | None]] = [
    ({"image_reference": None}, {}, 400, "invalid_request", "image_reference"),
    ({"audio_reference": None}, {}, 400, "invalid_request", "audio_reference"),
    ({"image_reference": None}, {"image_reference": "https://a.org/a.png"}, 400, "invalid_request", "image_reference"),
    ({"image_reference": None}, {"image_reference": "/etc/passwd"}, 400, "invalid_request", "image_reference"),
    ({"driving": ("a.mp4", b"x")}, {}, 400, "invalid_request", "driving"),
    ({"image_reference": ("a.png", b"no picture")}, {}, 422, "input", "image_reference"),
    ({"image_reference": ("a.png", b"")}, {}, 422, "input", "image_reference"),
    ({"audio_reference": ("a.wav", b"no sound")}, {}, 422, "input", "audio_reference"),
    ({"audio_reference": ("a.m3u8", PLAYLIST)}, {}, 422, "input", "audio_reference"),
    ({"audio_reference": ("a.wav", SCRIPT)}, {}, 422, "input", "audio_reference"),
    ({"subtitles": ("a.srt", b"hello")}, {}, 422, "input", "subtitles"),
    ({"subtitles": ("a.txt", b"hello")}, {}, 422, "input", "subtitles"),
    ({}, {"subtitles": "/etc/hostname"}, 400, "invalid_request", "subtitles"),
    ({"background_reference": ("a.png", b"no picture")}, {}, 422, "input", "background_reference"),
    ({}, {"background_reference": "/etc/hostname"}, 400, "invalid_request", "background_reference"),
    ({"background": ("a.png", b"x")}, {}, 400, "invalid_request", "background"),
    ({}, {"background": "/etc/hostname"}, 400, "invalid_request", "background"),
    ({"background_reference": ("a.png", b"x")}, {"background": "red"}, 400, "invalid_request", "background_reference"),
    ({"background_reference": ("a.png", b"x")}, {"alpha": "yes"}, 400, "invalid_request", "alpha"),
    ({}, {"background": "#00b140", "alpha": "true"}, 400, "invalid_request", "alpha"),
    ({}, {"alpha": "webm"}, 400, "invalid_request", "alpha"),
    ({}, {"loop": "yes", "gesture": "wave"}, 400, "invalid_request", "loop"),
    ({}, {"loop": "yes", "gestures": "yes"}, 400, "invalid_request", "gestures"),
    ({}, {"gesture": "wave", "gestures": "no"}, 400, "invalid_request", "gestures"),
    ({}, {"gestures": "a few"}, 400, "invalid_request", "gestures"),
    ({}, {"sed": "3"}, 400, "invalid_request", "sed"),
    ({}, {"seed": "-1"}, 400, "invalid_request", "seed"),
    ({}, {"seed": "9" * 5000}, 400, "invalid_request", "seed"),
    ({}, {"seed": "1.5"}, 400, "invalid_request", "seed"),
    ({}, {"fps": "nan"}, 400, "invalid_request", "fps"),
    ({}, {"blink": "perhaps"}, 400, "invalid_request", "blink"),
    ({}, {"face": "middle"}, 400, "invalid_request", "face"),
    ({}, {"gesture": "../wave"}, 400, "invalid_request", "gesture"),
    ({}, {"size": "2048"}, 413, "too_large", "size"),
    ({}, {"model": "other"}, 400, "invalid_request", "model"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "data", "status", "code", "param"), WRONG)
def test_what_cannot_be_made_is_refused(changed, data, status, code, param, served, held, files) -> None:
    client = served(held)
    given = {name: value for name, value in {**files, **changed}.items() if value is not None}
    answer = client.post("/v1/videos", files=given, data=data)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), error
    assert str(served.folder) not in answer.text and "\n" not in error["message"]
    assert served.left == [] and list((served.folder / "videos").iterdir()) == [] and held.begun == []


def test_uploads_have_a_limit(served, held, files, tone) -> None:
    client = served(held, max_upload=1, max_seconds=1)
    large = {**files, "image_reference": ("a.png", b"\0" * (2 << 20))}
    assert client.post("/v1/videos", files=large).json()["error"]["code"] == "too_large"
    # Without a stated length it is noticed while it comes.
    body = (b"\0" * (1 << 18) for _ in range(8))
    answer = client.post("/v1/videos", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413
    assert client.post("/v1/videos", content=b"\0", headers={"content-type": "multipart/form-data"}).status_code == 400
    files["audio_reference"] = ("long.wav", tone("long.wav", seconds=1.2).read_bytes())
    answer = client.post("/v1/videos", files=files)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_long"
    assert served.left == []


def test_a_full_queue_refuses_and_an_empty_one_goes_on(served, held, files, finished) -> None:
    client = served(held, max_waiting=2)
    first = client.post("/v1/videos", files=files).json()
    wait_for(lambda: held.begun == [first["id"]])
    waiting = [client.post("/v1/videos", files=files).json() for _ in range(2)]
    assert [job["waiting_before"] for job in waiting] == [0, 1]
    refused = client.post("/v1/videos", files=files)
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "queue_full"
    assert int(refused.headers["retry-after"]) > 0
    assert client.get("/health").json() == {"status": "ok", "waiting": 2, "full": True}
    assert client.get(f"/v1/videos/{first['id']}").json()["progress"] == 25
    assert client.delete(f"/v1/videos/{waiting[0]['id']}").status_code == 200
    held.go.set()
    assert finished(client, waiting[1]["id"])["status"] == "completed"
    assert held.begun == [first["id"], waiting[1]["id"]]
    assert client.get(f"/v1/videos/{first['id']}/content").content == first["id"].encode()
    assert client.get(f"/v1/videos/{first['id']}").json()["warnings"] == [
        "image_reference: the largest face is animated"
    ]


def test_removing_a_video_stops_it(served, held, files) -> None:
    client = served(held)
    job = client.post("/v1/videos", files=files).json()
    wait_for(lambda: held.begun)
    assert client.delete(f"/v1/videos/{job['id']}").status_code == 200
    assert wait_for(lambda: served.left == [])
    assert client.delete(f"/v1/videos/{job['id']}").json()["error"]["code"] == "not_found"
    held.go.set()
    assert client.post("/v1/videos/sync", files=files).status_code == 200  # the queue goes on


def test_jobs_survive_a_server_that_ends(served, held, files, finished) -> None:
    client = served(held)
    behind = {"background_reference": ("office.png", one_colour("blue"))}
    jobs = [
        client.post("/v1/videos", files=files, data={"guidance_interval": "0.2,0.8", "alpha": "yes"}).json(),
        client.post("/v1/videos", files={**files, **behind}).json(),
    ]
    wait_for(lambda: held.begun)
    with pytest.raises(OutputError, match="another server"):
        JobStore(served.folder)
    served.stack.close()  # the first is stopped in the middle
    store = JobStore(served.folder)
    assert store.counts()["queued"] == 2
    without, other = (store.get(job["id"]) for job in jobs)
    assert form_of(without, Path("jobs")) == OutputForm(alpha=True)
    assert form_of(other, Path("jobs")) == OutputForm(background=str(Path("jobs", "background_reference.png")))
    store.change(jobs[0]["id"], status=IN_PROGRESS)  # as a process leaves it that was killed
    (served.folder / "videos" / "upload-without-a-job").mkdir()
    store.close()
    held.go.set()
    client = served(held)
    assert [finished(client, job["id"])["status"] for job in jobs] == ["completed"] * 2
    assert not (served.folder / "videos" / "upload-without-a-job").exists()
    assert wait_for(lambda: served.left == ["video.mp4", "video.webm"])


def test_a_server_that_signs_makes_no_webm() -> None:
    model = served_model(RuntimeConfig(), Marks(c2pa=True))
    assert model.signed and not served_model(RuntimeConfig(), Marks()).signed
    with pytest.raises(RequestFailed, match="cannot be signed"):
        check_together({"alpha": True}, (), model.signed)
    check_together({"alpha": False, "background": "green"}, (), model.signed)


def test_old_videos_are_removed(served, held, files, finished) -> None:
    held.go.set()
    client = served(held)
    job = finished(client, client.post("/v1/videos", files=files).json()["id"])
    assert served.queue.store.expire(3600) == 0
    assert served.queue.store.expire(3600, now=time.time() + 3601) == 1
    assert client.get(f"/v1/videos/{job['id']}").status_code == 404 and served.left == []


def test_a_token_opens_everything_but_health(served, held, files) -> None:
    client = served(held, page="<html>", token="hush", host="0.0.0.0")
    assert client.get("/health").status_code == 200 and client.get("/").status_code == 200
    for path in ("/v1/models", "/metrics", "/v1/videos/x", "/openapi.json"):
        assert client.get(path).json()["error"]["code"] == "unauthorized", path
        assert client.get(path, headers={"Authorization": "Bearer hus"}).status_code == 401
    assert client.post("/v1/videos", files=files).status_code == 401
    allowed = {"Authorization": "Bearer hush"}
    assert client.get("/v1/models", headers=allowed).json()["data"][0]["id"] == "tiny"
    assert client.get("/v1/models", headers={**allowed, "host": "videos.example.org"}).status_code == 200


def test_pages_of_other_sites_may_not_ask(served, held, files) -> None:
    client = served(held)
    assert client.post("/v1/videos", files=files, headers={"Origin": "https://example.org"}).status_code == 403
    assert client.get("/v1/models", headers={"Origin": "http://localhost"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "example.org"}).status_code == 403  # its name, our address
    assert client.get("/v1/models", headers={"Host": "127.0.0.1:8000"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "["}).status_code == 403


def test_what_is_not_there_is_told_in_the_same_form(served, held) -> None:
    client = served(held)
    for path, status, code in (
        ("/v1/videos/video_00", 404, "not_found"),
        ("/v1/videos/..%2f..%2fetc/content", 404, "not_found"),
        ("/nothing", 404, "not_found"),
        ("/", 404, "not_found"),
        ("/v1/videos", 405, "method_not_allowed"),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), path
    schema = client.get("/openapi.json").json()["paths"]["/v1/videos"]["post"]["requestBody"]
    assert {"image_reference", "seed", "gesture"} <= set(
        schema["content"]["multipart/form-data"]["schema"]["properties"]
    )


def test_metrics_count(served, held, files) -> None:
    held.go.set()
    client = served(held)
    client.post("/v1/videos/sync", files=files)
    client.get("/nothing")
    text = client.get("/metrics").text
    assert all(
        re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{\w+=\"\w+\"\})? [0-9.e+]+", line) for line in text.splitlines()
    )
    values = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    assert values["cyberhost_jobs_completed_total"] == "1" and values["cyberhost_frames_total"] == "4"
    assert values["cyberhost_requests_refused_total"] == "1" and 'cyberhost_jobs{status="queued"}' in values
    assert float(values["cyberhost_uploaded_bytes_total"]) > 10_000


def test_lines_name_no_place_of_the_server() -> None:
    names = {"/srv/jobs/1/image_reference.jpg": "image_reference"}
    assert (
        failure_of(NoFaceError("/srv/jobs/1/image_reference.jpg: no face"), names).message == "image_reference: no face"
    )
    for error in (
        NoFaceError("/srv/jobs/1/other: no face"),
        OutputError("/srv/jobs/1/video.mp4: the disk is full"),
        ModelError("/srv/models/mine: is damaged"),
        RuntimeError("/srv/jobs/1/image_reference.jpg"),
        MemoryError("/srv"),
    ):
        assert "/" not in failure_of(error, names).message
