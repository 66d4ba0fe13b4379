"""Untrusted text in messages is harmless and short; numbers sort by value."""

from uncus.data.text import natural_text, printable, shorten


def test_control_and_direction_characters_are_removed() -> None:
    assert printable("a\x1b[31m\n\u202eb c") == "a[31mb c"
    assert len(printable("x" * 500)) == 80 and printable("x" * 500).endswith("…" + "x" * 14)


def test_long_lists_are_shortened() -> None:
    assert shorten(["a", "b"]) == "a, b" and shorten(list("abcd"), 2) == "a, b and 2 more"
    assert shorten(list("abcd"), None) == "a, b, c, d"


def test_numbers_in_names_sort_by_value() -> None:
    assert sorted(["b1", "a10", "a2", "7"], key=natural_text) == ["7", "a2", "a10", "b1"]
