"""Names that a stranger chose are shown inert."""

import pytest

from uncus.app.sanitize import plain, safe_name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b.nii.gz", "a b.nii.gz"),
        ("../../etc/x.nii", "x.nii"),
        ("C:\\scans\\x.nii", "x.nii"),
        ("a\u202egz.iin\n`*.nii", "agz.iin'*.nii"),
        ("", "unnamed"),
        ("..", ".."),
    ],
)
def test_names_are_harmless(name: str, shown: str) -> None:
    assert safe_name(name) == shown
    assert len(safe_name("x" * 1000 + ".nii.gz")) <= 48
    assert plain("[a](b) <i>") == r"\[a\]\(b\) \<i\>"
