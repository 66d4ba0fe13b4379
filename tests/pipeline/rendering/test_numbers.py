"""Numbers as text."""

import pytest

from uncus.pipeline.rendering.numbers import number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.12345, "0.123"),
        (-0.0001, "0.000"),
        (-1.5, "−1.500"),
        (22.694, "22.69"),
        (1234.56, "1234.6"),
    ],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert number(value) == shown
