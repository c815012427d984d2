"""Check the documentation: code blocks run, options exist, links lead somewhere, figures are those of results.json.

Blocks of a page run in order in one folder with a copy of examples/. Its recordings are cut to a quarter of a second,
and where a block names no number of steps it is one, to keep this short. A block that cannot run says so in a comment
right above it, `<!-- not run: REASON -->`, with a reason of `REASONS`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import soundfile

from cyberhost_cli import main as cli
from cyberhost_model.sampler.schedule import Schedule

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
RUN = [ROOT / "README.md", *sorted((DOCS / "user").glob("*.md"))]
CONTRIBUTING, CARD = ROOT / "CONTRIBUTING.md", ROOT / "src" / "cyberhost_model" / "weights" / "tiny" / "README.md"
EVERY = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    CONTRIBUTING,
    CARD,
    *sorted(DOCS.rglob("*.md")),
    ROOT / "examples" / "README.md",
]
BLOB = "https://github.com/cyberhost-project/cyberhost/blob/main/"
"""How a page that leaves the repository, such as a model card, links into it."""
REASONS = {
    "needs a GPU",
    "fetches weights",
    "needs a data set",
    "needs an account",
    "needs a pipe, a microphone or a player",
    "installs packages",
    "runs the whole suite",
}
INSTALLS = re.compile(r"^(python3 -m venv |\.venv/bin/pip install |pip install |source |cd )")
"""Commands that prepare an environment; the test has one."""
SECONDS = 0.24
"""Length of the recordings in the copy of examples/."""


@dataclass
class Block:
    """A fenced block of a page and, where it does not run, the reason."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Find the fenced code blocks of a page."""
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        if not (opened := re.fullmatch(r"```(\w*)", lines[at])):
            at += 1
            continue
        end = lines.index("```", at + 1)
        said = re.fullmatch(r"<!-- not run: (.*) -->", lines[at - 1]) if at else None
        found.append(Block(page, at + 1, opened[1], "\n".join(lines[at + 1 : end]), said[1] if said else None))
        at = end + 1
    return found


def commands(block: Block) -> Iterator[list[str]]:
    """Split a bash block into commands; comments are left out, `&&` separates."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word != "&&":
                words.append(word)
            elif words:
                yield words
                words = []


def prose(page: Path) -> str:
    """Read a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy examples/ with short recordings."""
    copy = tmp_path_factory.mktemp("docs") / "examples"
    shutil.copytree(ROOT / "examples", copy)
    for path in copy.glob("*.wav"):
        samples, rate = soundfile.read(path)
        soundfile.write(path, samples[: round(SECONDS * rate)], rate)
    return copy


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos take one step where no other number is asked for."""
    choose = Schedule.__init__

    def choose_one(self, diffusion, sampling, *asked, **named):
        choose(self, diffusion, replace(sampling, steps=1), *asked, **named)

    monkeypatch.setattr(Schedule, "__init__", choose_one)


@pytest.mark.slow
@pytest.mark.usefixtures("one_step", "loaded_once", "timed_once")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_blocks_run(page: Path, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(examples, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CYBERHOST_CACHE", str(tmp_path / "cache"))
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks(page):
        if block.reason is not None or block.language not in ("bash", "python"):
            continue
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
            continue
        for words in commands(block):
            if INSTALLS.match(" ".join(words)):
                continue
            if words[0] == "mkdir":
                Path(words[1]).mkdir()
                continue
            assert Path(words[0]).name == "cyberhost", f"{block}: what is {words[0]}?"
            assert cli.main(words[1:]) == 0, f"{block}: {' '.join(words)}"


def test_blocks_that_do_not_run_say_why() -> None:
    for page in RUN:
        for block in blocks(page):
            if block.reason is not None:
                assert block.reason in REASONS, f"{block}: {block.reason!r} is none of {sorted(REASONS)}"
            assert block.language in ("bash", "python", "text"), f"{block}: {block.language!r}"


def test_every_page_of_the_user_is_listed() -> None:
    listed = (DOCS / "README.md").read_text(encoding="utf-8")
    for folder in ("user", "reference"):
        for page in (DOCS / folder).glob("*.md"):
            assert f"({folder}/{page.name})" in listed, page
    index = (DOCS / "experiments" / "README.md").read_text(encoding="utf-8")
    for page in (DOCS / "experiments").glob("[0-9]*.md"):
        assert f"({page.name})" in index, page


def test_options_in_docs_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know every option of a bash block, outside experiments, and in the prose of docs/user."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import cli_docs

    reference = cli_docs.DOCUMENT.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## cyberhost ?(.*?)\n(.*?)(?=^## |\Z)", reference, flags=re.S | re.M))
    short = {"eval": "eval run", "train": "train run"}
    for page in EVERY:
        if page.parent.name == "experiments" or page == cli_docs.DOCUMENT:
            continue
        for block in blocks(page):
            for words in commands(block) if block.language == "bash" else ():
                if Path(words[0]).name != "cyberhost":
                    continue
                name = " ".join(words[1:3]) if " ".join(words[1:3]) in sections else words[1]
                known = cli_docs.options(sections[name] + (sections[short[name]] if name in short else ""))
                used = {word.split("=")[0] for word in words if word.startswith("--")}
                assert used <= known, f"{block}: {sorted(used - known)}"
    every = cli_docs.options(reference)
    for page in RUN:
        used = cli_docs.options(" ".join(re.findall(r"`([^`]+)`", prose(page))))
        assert used <= every, f"{page.name}: {sorted(used - every)}"


def anchors(page: Path) -> set[str]:
    """Name the anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), flags=re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        result.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return result


def test_links_lead_somewhere() -> None:
    for page in EVERY:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            ours = target.startswith(BLOB)
            if re.match(r"[a-z]+:", target) and not ours:
                continue
            name, _, anchor = target.removeprefix(BLOB).partition("#")
            path = ((ROOT if ours else page.parent) / name).resolve() if name else page
            assert path.exists(), f"{page.relative_to(ROOT)}: {target}"
            if anchor:
                assert path.suffix == ".md" and anchor in anchors(path), f"{page.relative_to(ROOT)}: {target}"


def test_pictures_are_small_and_all_shown() -> None:
    shown = {Path(name).name for page in EVERY for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", prose(page))}
    for picture in (DOCS / "images").iterdir():
        assert picture.stat().st_size < 1.5e6, picture
        assert picture.name in shown, picture


def test_results_are_those_of_the_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import results_page

    assert results_page.out_of_date() == [], "run scripts/results_page.py"
    for name in ("title", "n", "how", "columns", "rows", "digits"):
        assert all(name in entry for entry in json.loads(results_page.DATA.read_text(encoding="utf-8"))["tables"])


def test_the_architecture_page_is_the_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/reference/cli.md has this test in test_cli.py, docs/results.md above."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import architecture_page

    written = architecture_page.PAGE.read_text(encoding="utf-8")
    assert written == architecture_page.page(), "run scripts/architecture_page.py"


def test_recipes_name_what_exists() -> None:
    """Find every file, test and name of the package that CONTRIBUTING.md points at."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    package = ROOT / "src" / "cyberhost_model"
    for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|toml))`", text):
        if "NAME" not in name:
            assert any((folder / name).is_file() for folder in (ROOT, package, package.parent)), name
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name
    for block in blocks(CONTRIBUTING):
        if block.language == "python":
            compile(block.text, str(block), "exec")


def test_numbers_of_experiments_are_unique() -> None:
    numbers = [page.name[:3] for page in (DOCS / "experiments").glob("[0-9]*.md")]
    assert len(numbers) == len(set(numbers)) and all(number.isdigit() for number in numbers)


def test_docs_name_no_place_of_ours() -> None:
    """Refuse paths of a developer's machine."""
    for page in EVERY:
        text = page.read_text(encoding="utf-8")
        for place in ("/work/", "/home/", "/root/", "../shared"):
            assert place not in text, f"{page.relative_to(ROOT)}: {place}"
