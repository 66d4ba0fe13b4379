"""Untrusted text in messages is harmless and short; numbers sort by value."""

from uncus.data.text import (
    alike,
    displayed,
    grouped,
    natural_text,
    printable,
    shorten,
    with_ranges,
)


def test_control_and_direction_characters_are_removed() -> None:
    assert printable("a\x1b[31m\n\u202eb c") == "a[31mb c"
    assert len(printable("x" * 500)) == 80 and printable("x" * 500).endswith("…" + "x" * 14)


def test_names_are_displayed_whatever_their_bytes() -> None:
    assert displayed("é.nii") == "é.nii" and displayed("\udce9.nii") == "\ufffd.nii"
    assert displayed("a\nb\x1b[31m  c") == "a b[31m  c"


def test_long_lists_are_shortened() -> None:
    assert shorten(["a", "b"]) == "a, b" and shorten(list("abcd"), 2) == "a, b and 2 more"
    assert shorten(list("abcd"), None) == "a, b, c, d"


def test_numbers_in_names_sort_by_value() -> None:
    assert sorted(["b1", "a10", "a2", "7"], key=natural_text) == ["7", "a2", "a10", "b1"]


def test_texts_that_differ_in_numbers_become_one() -> None:
    texts = ["overlap 0.71, likeness 5", "overlap 0.9, likeness 5", "overlap 0.80, likeness 5"]
    assert len({alike(text) for text in texts}) == 1 and alike("a 1") != alike("b 1")
    assert with_ranges(texts) == "overlap 0.71 to 0.9, likeness 5"
    assert with_ranges(["no number"] * 2) == "no number"


def test_texts_about_scans_are_grouped_with_their_names() -> None:
    noisy = [(f"sub-{k}", f"Noisy (signal {k} times the noise).") for k in (3, 5, 4)]
    groups = grouped([("sub-9", "Cut off."), *noisy, noisy[0]], 23)
    assert groups == [
        ("3 of 23 scans: Noisy (signal 3 to 5 times the noise).", ["sub-3", "sub-5", "sub-4"]),
        ("1 of 23 scans: Cut off.", ["sub-9"]),
    ]
