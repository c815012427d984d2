"""A page in a real browser without a screen (Chromium), and a probe that measures it from inside."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)

# What a reader would notice: a page wider than the screen, faint text, controls without a name, a skeleton that is not drawn or not cleared.
_PROBE = """
const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (colour) => rgb(colour).slice(0, 3).map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return getComputedStyle(e).backgroundColor;
  }
  return "rgb(255, 255, 255)";
};
const contrast = (a, b) => { const [low, high] = [light(a), light(b)].sort((x, y) => x - y); return (high + 0.05) / (low + 0.05); };
const painted = (canvas) => canvas.width > 0 && canvas.height > 0 &&
  canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value, i) => i % 4 === 3 && value > 0);
setTimeout(() => {
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  const words = [...document.querySelectorAll("body *")].filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  const seen = words.filter((e) => e.getClientRects().length && !e.closest("svg, script, .skip"));
  const faint = seen.map((e) => [contrast(getComputedStyle(e).color, ground(e)), e.outerHTML.slice(0, 120)]).sort((a, b) => a[0] - b[0]);
  const controls = [...document.querySelectorAll("button, input, video, [role=region], [role=img]")];
  const nameless = controls.filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && e.labels.length)));
  const canvases = [...document.querySelectorAll("canvas")];
  const drawn = canvases.map(painted);
  const skeleton = document.querySelector("[data-skeleton]");
  if (skeleton) skeleton.click();
  const jump = document.querySelector("[data-jump]");
  if (jump) jump.click();
  const found = {
    width: innerWidth, pageWidth: document.documentElement.scrollWidth, dark: matchMedia("(prefers-color-scheme: dark)").matches,
    faintest: faint[0], nameless: nameless.map((e) => e.outerHTML.slice(0, 120)), drawn, cleared: canvases.slice(0, 1).map((c) => !painted(c)),
    time: document.querySelector("video") ? document.querySelector("video").currentTime : null,
    small: [...document.querySelectorAll("button")].filter((e) => e.getBoundingClientRect().height < 32).length,
  };
  parent.postMessage(JSON.stringify(found), "*");
}, 1500);
"""
# A window is 500 pixels wide at least; a frame inside it may be as narrow as a phone.
_FRAME = """<!doctype html><title>frame</title><body style="margin:0"><iframe src="{name}" style="width:{width}px;height:{height}px;border:0"></iframe>
<pre id="probe"></pre><script>onmessage = (told) => {{ document.getElementById("probe").textContent = told.data; }};</script></body>"""


@dataclass(frozen=True)
class Seen:
    """The DOM after the page has run, what the console said, and a picture of it."""

    dom: str
    console: list[str]
    picture: Path

    @property
    def errors(self) -> list[str]:
        """What the console said of errors; the probe itself makes it say other things."""
        return [line for line in self.console if re.search("Uncaught|Error|Refused|violates", line)]

    @property
    def probe(self) -> dict:
        """What the probe measured."""
        found = re.search(r'<pre id="probe">(.*?)</pre>', self.dom, re.DOTALL)
        assert found and found[1], "the probe did not run"
        return json.loads(html.unescape(found[1]))


def see(page: Path, picture: Path, size: tuple[int, int] = (1280, 900), dark: bool = False) -> Seen:
    """Open a page as it is."""
    assert BROWSER is not None
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        flags += ["--no-first-run", "--hide-scrollbars", f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
        flags += ["--enable-logging=stderr", "--virtual-time-budget=8000", f"--screenshot={picture}", "--dump-dom", page.as_uri()]
        done = subprocess.run([BROWSER, *flags], capture_output=True, text=True, timeout=120, check=False)
    return Seen(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], picture)


def see_inside(page: Path, picture: Path, size: tuple[int, int], dark: bool = False) -> Seen:
    """Open a copy of a page with the probe in it, in a frame of `size`; the copy lacks the page's own policy, which would not let the probe run."""
    copy, frame = picture.with_suffix(".inside.html"), picture.with_suffix(".frame.html")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    copy.write_text(text.replace("</body>", f"<script>{{{_PROBE}}}</script></body>"), encoding="utf-8")
    frame.write_text(_FRAME.format(name=copy.name, width=size[0], height=size[1]), encoding="utf-8")
    return see(frame, picture, size, dark)
