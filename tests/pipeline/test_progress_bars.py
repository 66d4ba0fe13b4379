"""Progress bars: what they show on a terminal, and nothing elsewhere."""

import io
import time

import pytest
from rich.console import Console

from uncus.pipeline import progress_bars


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 100 columns instead of stderr."""
    written = io.StringIO()

    def console(stderr: bool, highlight: bool) -> Console:
        assert stderr and not highlight
        return Console(file=written, force_terminal=True, width=100)

    monkeypatch.setattr(progress_bars, "Console", console)
    return written


def test_a_bar_counts_in_its_unit_with_elapsed_and_remaining_time(terminal: io.StringIO) -> None:
    with progress_bars.progress_bar("epochs, {task.fields[done]} networks") as bar:
        task = bar.add_task("training", total=30, done="0/3")
        bar.update(task, completed=20, done="2/3")
    for part in ("training", "20/30", "epochs, 2/3 networks", "0:00:00"):
        assert part in terminal.getvalue()


def test_track_yields_the_items_and_shows_their_number(terminal: io.StringIO) -> None:
    assert list(progress_bars.track("abc", "letters")) == ["a", "b", "c"]
    assert "letters" in terminal.getvalue() and "3/3" in terminal.getvalue()
    terminal.truncate(0)
    assert list(progress_bars.track(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    assert "3/3" in terminal.getvalue()
    terminal.truncate(0)
    assert list(progress_bars.track("a", "letters")) == ["a"]
    assert not terminal.getvalue()


def test_track_prints_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bars.track([1, 2, 3], "numbers")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_the_time_left_goes_by_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    assert progress_bars.time_left(900, 1, 11) == "0:16:40 left"
    assert progress_bars.time_left(1000 - 86400, 1, 3) == "2 days, 0:00:00 left"
    assert progress_bars.time_left(900, 0, 11) == progress_bars.time_left(900, 11, 11) == ""
