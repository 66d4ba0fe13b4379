"""An evaluation on the terminal."""

import pytest

from tests.pipeline.test_evaluate import case
from uncus.pipeline.evaluation import terminal
from uncus.pipeline.evaluation.assessment import Assessment, assess
from uncus.pipeline.rendering.numbers import number


@pytest.fixture(scope="module")
def binary() -> Assessment:
    return assess(*case(holdout=20), ["volume"], draws=100)


def test_terminal_shows_the_same_numbers(
    binary: Assessment, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.show("run [bold]x[/bold]", binary.report)
    printed = capsys.readouterr().out
    assert "[bold]x[/bold]" in printed and "holdout" in printed
    for name, found in binary.report["baselines"].items():
        assert name in printed and number(found["auc"]["value"]) in printed
