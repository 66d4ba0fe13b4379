"""Bad input is one line, also after a worker process sent it."""

import os
import pickle
from pathlib import Path

import pytest

from uncus.data.errors import BadInput, error_line


def test_bad_input_is_one_line_and_survives_pickle() -> None:
    error = BadInput("scan.nii", "is cut\n off", "copy it again")
    assert str(error) == "scan.nii: is cut off; copy it again"
    assert str(BadInput("scan.nii", "is cut off", "")) == "scan.nii: is cut off"
    sent = pickle.loads(pickle.dumps(error))
    assert (sent.value, sent.cause, sent.remedy, str(sent)) == (*error.__reduce__()[1], str(error))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left", "a.npy"), "a.npy: no space left; free space"),
        (OSError(28, "No space left"), "disk: no space is left; free space and run the same"),
        (
            PermissionError(13, "Permission denied", "a.nii"),
            "a.nii: permission denied; check",
        ),
        (MemoryError(), "memory: there is not enough; "),
        (BadInput("a.nii", "is empty", "copy it"), "a.nii: is empty; copy it"),
        (ValueError("two\nlines"), "two lines"),
        (ValueError("\x1b[2Jgone\u202e"), "[2Jgone"),
        (KeyError(), "KeyError"),
    ],
)
def test_every_error_is_one_line(error: Exception, line: str) -> None:
    assert error_line(error).startswith(line) and error_line(error).isprintable()


def test_errors_of_files_name_the_file_and_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        tmp_path.read_bytes()
    assert error_line(caught.value) == f"{tmp_path}: is a directory; check the path"
    with pytest.raises(UnicodeError) as wrong:
        b"\xe9".decode()
    assert error_line(wrong.value).endswith("; save the file, or name it, in UTF-8")


def test_names_that_are_not_utf8_can_be_printed() -> None:
    error = BadInput(os.fsdecode(b"scan_\xe9.nii"), "is empty", "copy it")
    assert str(error).encode() and str(error).startswith("scan_\ufffd.nii: is empty")


def test_what_a_terminal_obeys_is_not_printed() -> None:
    error = BadInput("\x1b]0;a\x07.tsv", "sub-\u202e01 is\x9b2J twice", "see \x08it")
    assert str(error) == "]0;a.tsv: sub-01 is2J twice; see it"
