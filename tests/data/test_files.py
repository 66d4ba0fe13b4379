"""A failed write leaves the old file; a folder is locked for one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uncus.data import files
from uncus.data.errors import BadInput

IMPORTS = "import sys; from pathlib import Path; from uncus.data import files\n"


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "kept.txt"
    files.write_text(path, "old")
    for error in (OSError(28, "No space left on device"), ValueError("no"), KeyboardInterrupt()):

        def fail(temporary: Path, error: BaseException = error) -> None:
            temporary.write_text("half")
            raise error

        with pytest.raises((BadInput, ValueError, KeyboardInterrupt)) as caught:
            files.write_atomically(path, fail)
        assert isinstance(caught.value, BadInput) == isinstance(error, OSError)
        assert path.read_text() == "old"
        assert list(path.parent.iterdir()) == [path]
    files.write_text(path, "new")
    assert path.read_text() == "new"


def test_text_is_utf8_or_one_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xef\xbb\xbfsub-1\n")
    assert files.read_text(path) == "sub-1\n"
    path.write_bytes(b"sub-Jos\xe9")
    for wrong, cause in ((path, "not UTF-8 at byte 7"), (tmp_path, "is a directory")):
        with pytest.raises(BadInput, match=f"{wrong.name}: {cause}; "):
            files.read_text(wrong)
    files.write_text(path, "a\udce9b")  # the name of a file that is not UTF-8
    assert path.read_bytes() == b"a?b"


def test_a_folder_of_results_has_a_name_in_utf8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"run_\xe9")
    with pytest.raises(BadInput, match="its name is not UTF-8"), files.locked(folder, "run"):
        pass
    assert not folder.exists()


def test_a_full_disk_is_a_one_line_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")
    code = IMPORTS + "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    code += "try: files.write_text(Path(sys.argv[1]), 'x' * 5000)\n"
    code += "except ValueError as error: print(error)"
    printed = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert printed.startswith(f"{path}: cannot be written (File too large); free space")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        files.write_text(tmp_path / "file" / "below", "")
    with pytest.raises(BadInput, match="cannot be written"), files.locked(tmp_path / "file", "run"):
        raise AssertionError("it was locked")


def test_json_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    value = {"path": tmp_path, "list": [1, 2.5, None, True, "é"]}
    files.write_json(path, value)
    assert files.read_json(path) == {**value, "path": str(tmp_path)}
    before = path.read_bytes()
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            files.write_json(path, {"auc": bad})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b'{"a": -Infinity}', b"[" * 100_000],
    ids=["empty", "truncated", "not text", "nan", "infinity", "deep"],
)
def test_content_that_is_not_json_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "values.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="cannot be read as JSON") as caught:
        files.read_json(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_json_file_and_a_folder_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        files.read_json(tmp_path / "absent.json")
    with pytest.raises(BadInput, match="cannot be read"):
        files.read_json(tmp_path)


def test_sha256_follows_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_text("abc")  # FIPS 180-4, the example for SHA-256
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(tmp_path / "abc") == expected


def test_a_second_process_is_rejected_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    code = IMPORTS + "with files.locked(Path(sys.argv[1]), 'run'):\n"
    code += "    print('locked', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        rejected = pytest.raises(BadInput, match="another process is working on this run")
        with rejected, files.locked(tmp_path, "run"):
            raise AssertionError("two processes locked the folder")
        holder.kill()
        holder.wait()
        with files.locked(tmp_path, "run"):
            pass
