"""The pages in a real browser: no error, no fetch, clips play, measurements are drawn and readable."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from report_helpers import NASTY, results

from browser import BROWSER, Browser, Page
from cyberhost_model.lab.evaluation.features.people import KEYPOINTS
from cyberhost_model.lab.evaluation.report.compare import compare_results
from cyberhost_model.lab.evaluation.report.compare_output import write_comparison
from cyberhost_model.lab.evaluation.report.page import write_report
from cyberhost_model.lab.evaluation.report.selection import worst_videos
from cyberhost_model.lab.evaluation.report.single import single_page
from cyberhost_model.lab.evaluation.report.weak import WeakStretch

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
READING = Path(__file__).with_name("reading.js").read_text(encoding="utf-8")
SEEK = (
    "new Promise((done) => {{ const f = {film}; f.addEventListener('seeked', () => setTimeout(done, 100), {{once: "
    "true}}); f.currentTime = {to}; }})"
)
# The box around what is painted on a canvas, in shares of its sides, and a number that changes with it.
PAINTED = """(() => {{
  const canvas = {canvas};
  const data = canvas.width && canvas.height ? canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data : [];
  let [left, top, right, bottom, sum] = [Infinity, Infinity, -Infinity, -Infinity, 0];
  for (let i = 3; i < data.length; i += 4) if (data[i] > 0) {{
    const x = (i >> 2) % canvas.width / canvas.width, y = Math.floor((i >> 2) / canvas.width) / canvas.height;
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
    sum += x + 3 * y;
  }}
  return sum ? {{box: [left, top, right, bottom], sum}} : null;
}})()"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def file(drawn_run, tmp_path_factory):
    return write_report(drawn_run, tmp_path_factory.mktemp("report"))[1]


@pytest.fixture(scope="module")
def page(browser, file) -> Page:
    return browser.open(file)


def cut(page: Page, selector: str) -> np.ndarray:
    """The pixels of the first element of this kind, (H, W, 3)."""
    left, top, width, height = page.run(
        f"(() => {{ const r = document.querySelector({selector!r}).getBoundingClientRect(); return [r.x + scrollX, "
        f"r.y + scrollY, r.width, r.height]; }})()"
    )
    return np.asarray(page.picture().crop((round(left), round(top), round(left + width), round(top + height))))


def close_to(pixels: np.ndarray, colour: str) -> int:
    """How many pixels have about this colour, "rgb(r, g, b)"."""
    wanted = np.array([int(c) for c in colour[4:-1].split(",")])
    return int((np.abs(pixels.astype(int) - wanted).max(-1) < 40).sum())


def test_it_runs_without_an_error_and_asks_for_nothing(page, file):
    assert page.console == [] and page.asked_for == [file.as_uri()]
    parts = ["results", "skipped", "size", "worst", "clips", "all", "mismatches", "published", "provenance", "licences"]
    assert page.run("[...document.querySelectorAll('section')].map((s) => s.id)") == parts
    # A name that looks like HTML is text.
    assert page.run("document.querySelectorAll('img').length") == 0 and NASTY in page.run("document.body.innerText")


def test_an_error_and_a_fetch_would_be_noticed(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><title>x</title><script src='https://example.org/x.js'></script><script>nothing()</script>"
    )
    page = browser.open(bad)
    assert any("nothing is not defined" in line for line in page.console)
    assert "https://example.org/x.js" in page.asked_for


def test_players_stand_side_by_side_and_can_be_sought(page):
    stages = page.run("""[...document.querySelectorAll("[data-card]")].map((card) => [...card.querySelectorAll("video")].map((v) => {
      const r = v.getBoundingClientRect(); return {x: r.x, y: r.y, w: r.width, h: r.height, seconds: v.duration, error: v.error && v.error.message};
    }))""")
    assert len(stages) == 3
    for true, made in stages:
        assert true["error"] is None and made["error"] is None
        assert (
            true["y"] == made["y"]
            and true["x"] + true["w"] <= made["x"]
            and true["w"] == made["w"] > 100
            and true["h"] > 150
        )
        assert true["seconds"] == pytest.approx(0.96, abs=0.05) and made["seconds"] == pytest.approx(0.96, abs=0.05)
    shown = []
    for to in (0.12, 0.8):  # the slider under both moves both, by whole frames
        at = page.run(f"""(() => {{
          const card = document.querySelector("[data-card]"), seek = card.querySelector("[data-seek]"), films = [...card.querySelectorAll("video")];
          const sought = Promise.all(films.flatMap((f) => [
            new Promise((done) => f.addEventListener("seeked", done, {{once: true}})),
            new Promise((done) => f.requestVideoFrameCallback(done)),  // the picture follows later on a busy machine
          ]));
          seek.value = {to};
          seek.dispatchEvent(new Event("input"));
          return sought.then(() => new Promise((done) => setTimeout(done, 100))).then(() => [...films.map((f) => f.currentTime), Number(seek.step), Number(seek.max)]);
        }})()""")
        assert at == pytest.approx([to, to, 0.04, 0.96], abs=0.05) and at[0] == at[1] == pytest.approx(to, abs=1e-6)
        assert page.run("document.querySelector('[data-at]').textContent") == f"{to:.1f} s"
        shown.append(cut(page, "#clip-1 video").astype(int))
    assert shown[0].std() > 20 and np.abs(shown[0] - shown[1]).mean() > 1, "other frames are seen after a jump"


def test_a_film_that_is_not_loaded_shows_its_first_frame(browser, file):
    """As before it is loaded, and in a browser without H.264: not a black box."""
    page = browser.open(file)
    page.run(
        "new Promise((done) => { const f = document.querySelector('#clip-1 video'); f.removeAttribute('src'); f.load(); "
        "setTimeout(done, 200); })"
    )
    assert page.run("document.querySelector('#clip-1 video').readyState") == 0
    assert cut(page, "#clip-1 video").std() > 20


def test_one_key_plays_both(page):
    times = page.run("""new Promise((done) => {
      const card = document.querySelector("[data-card]"), films = [...card.querySelectorAll("video")], key = card.querySelector("[data-play]");
      films.forEach((f) => { f.currentTime = 0; });
      const words = [key.textContent];
      const look = () => {
        if (films.every((f) => f.currentTime > 0.3)) {
          words.push(key.textContent);
          key.click();
          return setTimeout(() => done({at: films.map((f) => f.currentTime), paused: films.map((f) => f.paused), words, muted: films.map((f) => f.muted)}), 300);
        }
        requestAnimationFrame(look);
      };
      key.click();
      look();
    })""")
    assert (
        times["paused"] == [True, True] and times["words"] == ["Play both", "Pause"] and times["muted"] == [True, False]
    )
    assert abs(times["at"][0] - times["at"][1]) < 0.25


def test_the_skeleton_lies_over_the_person_and_follows(page, drawn_run):
    first = page.run("document.querySelector('#clip-1 h3').textContent")
    features = drawn_run.features(first, "ground_truth", "dwpose")
    film, canvas = "document.querySelector('#clip-1 video')", "document.querySelector('#clip-1 canvas')"
    found = []
    for frame in (2, 20):
        page.run(SEEK.format(film=film, to=(frame + 0.5) / 25))
        points = np.asarray(features["points"][frame]).reshape(KEYPOINTS, 2)[
            np.asarray(features["scores"][frame]) > 0.3
        ]
        painted = page.run(PAINTED.format(canvas=canvas))
        expected = [*points.min(0).clip(0, 1), *points.max(0).clip(0, 1)]
        assert painted["box"] == pytest.approx(expected, abs=0.02)
        found.append(painted["sum"])
    assert found[0] != found[1]
    with_it = cut(page, "#clip-1 video").astype(int)
    key = "document.querySelector('#clip-1 [data-skeleton]')"
    page.run(f"{key}.click()")
    assert page.run(PAINTED.format(canvas=canvas)) is None
    assert (np.abs(with_it - cut(page, "#clip-1 video")).max(-1) > 60).mean() > 0.01, (
        "coloured lines were seen over the film"
    )
    page.run(f"{key}.click()")
    assert page.run(PAINTED.format(canvas=canvas)) is not None


def test_the_sync_curve_is_drawn(page):
    figures = page.run("""[...document.querySelectorAll("#clips figure.chart")].filter((f) => f.textContent.includes("Lips and sound")).map((f) => {
      f.dataset.curve = ""; const b = f.querySelector("path.main").getBBox(); return [b.width, b.height, f.querySelector("path.main").getTotalLength()];
    })""")
    assert len(figures) == 2 and all(width > 250 and height > 60 and length > 350 for width, height, length in figures)
    colour = page.run("getComputedStyle(document.querySelector('[data-curve] path.main')).stroke")
    assert close_to(cut(page, "[data-curve] svg"), colour) > 200


def test_the_worst_of_each_measure_can_be_seen(page, drawn_run):
    rows = page.run("""[...document.querySelectorAll("#worst tbody tr")].map((row) => [row.querySelector("th").textContent.split(" ")[0],
      [...row.querySelectorAll("a")].map((a) => { const card = document.querySelector(a.getAttribute("href")); return {
        name: a.textContent, head: card.querySelector("h3").textContent, tags: [...card.querySelectorAll(".tags li")].map((t) => t.textContent),
        height: card.getBoundingClientRect().height }; })])""")
    worst = worst_videos(drawn_run.results)
    assert {measure: [clip["name"] for clip in clips] for measure, clips in rows} == worst and set(worst) >= {
        "SSIM",
        "PSNR",
        "SyncC",
        "CSIM",
        "HKC",
    }
    for measure, clips in rows:
        for place, clip in zip(("worst", "2nd worst", "3rd worst"), clips, strict=False):
            assert clip["head"] == clip["name"] and f"{place} {measure}" in clip["tags"] and clip["height"] > 200


@pytest.mark.parametrize(("size", "dark"), [((1280, 900), False), ((390, 844), True)])
def test_it_can_be_read(browser, file, size, dark):
    page = browser.open(file, size, dark)
    found = page.run(READING)
    assert page.console == [] and found["width"] == size[0] and found["dark"] == dark
    assert found["pageWidth"] <= size[0], "the page itself does not scroll sideways"
    assert found["faintest"][0] >= 4.5, found["faintest"]
    assert found["nameless"] == [] and found["small"] == 0
    assert len(page.picture().getcolors(1 << 24) or []) > 1000


def test_weak_seconds_can_be_played(browser, drawn_run, tmp_path):
    only = dataclasses.replace(drawn_run.results, videos=drawn_run.results.videos[:1])
    file = tmp_path / "single.html"
    file.write_text(
        single_page(dataclasses.replace(drawn_run, results=only), [WeakStretch(1.5, 1.8, "hands", "words <b>")]),
        encoding="utf-8",
    )
    page = browser.open(file, (390, 844))
    found = page.run(READING)
    assert (
        page.console == []
        and page.asked_for == [file.as_uri()]
        and "words <b>" in page.run("document.querySelector('.weak').innerText")
    )
    assert found["pageWidth"] <= 390 and found["faintest"][0] >= 4.5 and found["nameless"] == []
    page.run(
        "new Promise((done) => { document.querySelector('video').addEventListener('seeked', done, {once: true}); "
        "document.querySelector('[data-jump]').click(); })"
    )
    assert page.run("document.querySelector('video').currentTime") >= 0.49


def test_a_comparison_can_be_read(browser, tmp_path):
    runs = [results("a", {"SSIM": [0.5, 0.6, 0.7, 0.8]}, "wxyz"), results("b", {"SSIM": [0.9, 0.8, 0.9, 0.95]}, "wxyz")]
    file = write_comparison(compare_results(runs), tmp_path)[3]
    page = browser.open(file, (390, 844), dark=True)
    found = page.run(READING)
    assert (
        page.console == []
        and page.asked_for == [file.as_uri()]
        and "b is better" in page.run("document.body.innerText")
    )
    assert found["pageWidth"] <= 390 and found["faintest"][0] >= 4.5
