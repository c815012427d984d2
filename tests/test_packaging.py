"""What the files beside the source say of the package, and of each other."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
NAME = re.compile(r"[A-Za-z0-9_.-]+")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pinned() -> list[tuple[str, str, str]]:
    """Name, version and marker of every line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    found = [re.fullmatch(r"([a-z0-9-]+)==([0-9.a-z]+)(?:; (.+))?", line) for line in wanted]
    assert all(found), [line for line, match in zip(wanted, found, strict=True) if not match]
    return [(match[1], match[2], match[3] or "") for match in found if match]


def test_what_is_installed_is_tested_in_one_version(
    project: dict[str, Any], pinned: list[tuple[str, str, str]]
) -> None:
    extras = project["optional-dependencies"]
    apart = {"wandb", "theval"}  # in no check; MediaPipe with a face mesh wants an older NumPy
    wanted = [*project["dependencies"], *(line for name in set(extras) - apart for line in extras[name])]
    names = {plain(match[0]) for line in wanted if (match := NAME.match(line))} - {"cyberhost"}
    assert names <= {name for name, _, _ in pinned}
    for name in {name for name, _, _ in pinned}:
        markers = sorted(marker for other, _, marker in pinned if other == name)
        assert markers in ([""], ['python_version < "3.11"', 'python_version >= "3.11"']), name


def test_no_version_of_torch_is_too_new(project: dict[str, Any]) -> None:
    """An upper bound would downgrade what a user has, or end an installation beside another package."""
    assert [line for line in project["dependencies"] if line.startswith("torch")] == ["torch>=2.6"]
    assert not [line for line in project["dependencies"] if "<" in line.partition(";")[0]]


def test_the_citation_is_of_this_version(project: dict[str, Any]) -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    assert f"\nlicense: {project['license']}\n" in citation
