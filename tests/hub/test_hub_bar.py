"""The bar of a fetch, drawn on a terminal that is only written to."""

import io

import pytest
from rich import console

from cyberhost_cli.console import FetchBar


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    made, own = io.StringIO(), console.Console
    monkeypatch.setattr(console, "Console", lambda **options: own(file=made, force_terminal=True, width=120))
    return made


def test_a_bar_shows_what_comes_and_how_much_of_it(screen: io.StringIO) -> None:
    bar = FetchBar()
    bar("lab/pair", 0, 4_000_000)
    bar("lab/pair", 4_000_000, 4_000_000)
    shown = screen.getvalue()
    assert "Fetching lab/pair" in shown and "4.0/4.0 MB" in shown and bar._bar is None


def test_another_model_gets_a_bar_of_its_own(screen: io.StringIO) -> None:
    bar = FetchBar()
    bar("lab/one", 10, 1_000_000)
    bar("lab/two", 2_000_000, 2_000_000)
    assert (
        "Fetching lab/one" in screen.getvalue()
        and "Fetching lab/two" in screen.getvalue()
        and "2.0/2.0 MB" in screen.getvalue()
    )
