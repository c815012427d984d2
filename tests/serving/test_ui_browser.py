"""The page of `cyberhost ui` in a real browser: a video made by clicking, errors, webcam and microphone, a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_helpers import wait_for

from browser import BROWSER, Browser, Page
from cyberhost_model.options import options_of
from cyberhost_model.serving.settings import VideoOptions

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
PHONE, DESK = (390, 844), (1280, 900)


@pytest.fixture(scope="module")
def browser(speech_file: Path) -> Iterator[Browser]:
    with Browser(speech_file) as opened:
        yield opened


def text(page: Page, selector: str) -> str:
    return page.run(
        f"(() => {{ const e = document.querySelector({selector!r}); return e.hidden ? '' : e.innerText; }})()"
    )


def fill(page: Page, **options: object) -> None:
    for name, value in options.items():
        page.run(f"document.querySelector('[name={name}]').value = '{value}'")


def click(page: Page, selector: str) -> None:
    page.run(f"document.querySelector({selector!r}).click()")


def no_wider_than(page: Page, width: int) -> bool:
    return page.run("document.documentElement.scrollWidth") <= width


def test_a_video_is_made_by_clicking(browser: Browser, address: str, portrait_file: Path, tone, tmp_path) -> None:
    page, subtitles = browser.open(address), tmp_path / "hello.eng.srt"
    page.choose("[name=image_reference]", portrait_file)
    page.choose("[name=audio_reference]", tone("hello.wav", seconds=0.2))
    assert wait_for(lambda: page.run("document.getElementById('picture').naturalWidth") == 512)
    fill(page, seed=3, size=256, steps=1)
    click(page, "#make")
    assert wait_for(lambda: text(page, "#status") == "0.20 s of 256x256")
    playing = "(() => { const v = document.getElementById('video'); return [v.videoWidth, v.duration, v.hidden]; })()"
    assert wait_for(lambda: page.run(playing) == [256, 0.2, False] or None)
    command = text(page, "#command")
    assert command == "cyberhost animate astronaut.jpg hello.wav -o video.mp4 --seed 3 --size 256 --steps 1"
    assert page.console == [] and all(url.startswith((address, "blob:")) for url in page.asked_for)
    again = browser.open(address + page.run("location.hash"), PHONE)  # the address leads back to the video
    assert wait_for(lambda: again.run(playing) == [256, 0.2, False] or None)
    assert no_wider_than(again, PHONE[0])
    # The next one has no background: the page's pattern is seen through it.
    subtitles.write_text("1\n00:00:00,000 --> 00:00:00,150\nHello\n", encoding="utf-8")
    page.choose("[name=subtitles]", subtitles)
    fill(page, alpha="yes")
    click(page, "#make")
    assert wait_for(lambda: page.run("document.getElementById('video').className == 'alpha'"))
    assert wait_for(lambda: page.run(playing)[0] == 256)
    command = text(page, "#command")
    assert "--subtitles hello.eng.srt -o video.webm" in command and command.endswith(" --alpha")
    assert page.run("document.getElementById('save').download") == "video.webm"
    place = page.run(
        "(() => { const b = document.getElementById('video').getBoundingClientRect(); return [b.x, b.y]; })()"
    )
    corner = page.picture().crop((*(round(at) + 4 for at in place), *(round(at) + 36 for at in place)))
    assert len(corner.getcolors(1 << 10) or ()) == 2, "two colours of a pattern and nothing else"
    click(again, "#remove")
    assert wait_for(lambda: again.run("location.hash") == "" and text(again, "#job") == "")


def test_what_cannot_be_made_is_shown(browser: Browser, address: str, portrait_file: Path, picture_file, tone) -> None:
    page = browser.open(address, PHONE)
    click(page, "#make")
    assert wait_for(lambda: text(page, "#error")) == "the file image_reference is missing (invalid_request)"
    sound = tone("hello.wav", seconds=0.2)
    page.choose("[name=image_reference]", sound)
    page.choose("[name=audio_reference]", sound)
    click(page, "#make")
    assert wait_for(lambda: (told := text(page, "#error")).endswith("(input)") and told)
    page.choose("[name=image_reference]", picture_file)
    click(page, "#make")
    assert wait_for(lambda: (told := text(page, "#error")).endswith("(no_face)") and told)
    assert text(page, "#status") == "failed" and no_wider_than(page, PHONE[0])


def test_webcam_and_microphone(browser: Browser, address: str) -> None:
    page = browser.open(address)
    click(page, "#webcam")
    assert wait_for(lambda: text(page, "#webcam") == "Take the picture")
    click(page, "#webcam")
    assert wait_for(lambda: page.run("document.getElementById('picture').naturalWidth") > 0)
    click(page, "#microphone")
    assert wait_for(lambda: text(page, "#microphone") == "Stop recording")
    page.run("new Promise((done) => setTimeout(done, 1000))")
    click(page, "#microphone")
    assert wait_for(lambda: text(page, "#microphone") == "Record again")
    click(page, "#make")  # both are read; the webcam of a test shows nobody
    assert wait_for(lambda: "(no_face)" in text(page, "#error"))
    assert "cyberhost animate webcam.png recording.webm" in text(page, "#command")


@pytest.mark.skipif(os.name == "nt", reason="pipes for a second input of ffmpeg")
def test_the_picture_speaks_live(browser: Browser, address: str, portrait_file: Path) -> None:
    page = browser.open(address, PHONE)
    click(page, "#live-tab")
    assert text(page, "#lacking") == "" and no_wider_than(page, PHONE[0])
    click(page, "#speak")
    assert wait_for(lambda: text(page, "#error")) == "choose a picture first"
    page.choose("[name=image_reference]", portrait_file)
    fill(page, size=256, steps=1, fps=8)
    click(page, "#speak")
    playing = (
        "(() => { const v = document.getElementById('stage'); return v.videoWidth == 256 && v.currentTime > 0.5; })()"
    )
    assert wait_for(lambda: page.run(playing), 60), text(page, "#stage-status")
    assert "s of speech wait" in text(page, "#stage-status") and no_wider_than(page, PHONE[0])
    click(page, "#skip")  # what waits need not be made
    click(page, "#speak")
    page.run("talk.send(new Int16Array(2048))")  # what the microphone still had
    wait_for(lambda: not page.run("document.getElementById('speak').disabled"), 60)
    assert text(page, "#error") == "" and " frames" in text(page, "#stage-status")
    assert text(page, "#speak") == "Speak" and page.console == []
    fill(page, size=2048)
    click(page, "#speak")
    assert wait_for(lambda: text(page, "#error"), 60) == "size must be at most 1024 on this server (too_large)"


def test_options_are_those_of_the_command_line(browser: Browser, address: str) -> None:
    page = browser.open(address)
    for name, rule in options_of(VideoOptions).items():
        assert rule.help in page.run(f"document.querySelector('[name={name}]').closest('label').textContent")
