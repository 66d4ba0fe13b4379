"""Untrusted zips: extracted within limits, or rejected."""

import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dicom_files import refused, save, series
from uncus.data.dicom import zip_archive
from uncus.data.dicom.zip_archive import ZipLimits

ZIPS: dict[str, tuple[Callable[[zipfile.ZipFile], None], str]] = {
    "traversal": (lambda z: z.writestr("a/../../x.dcm", b"x"), "leads outside it"),
    "backslashes": (lambda z: z.writestr("..\\x.dcm", b"x"), "leads outside it"),
    "absolute": (lambda z: z.writestr("/etc/x.dcm", b"x"), "leads outside it"),
    "bomb": (lambda z: z.writestr("x.dcm", bytes(3 << 20)), "zip bomb"),
    "empty": (lambda z: None, "contains no files"),
    "no DICOM": (lambda z: [z.writestr(n, b"x" * 200) for n in "ab"] and None, "no DICOM file"),
}


@pytest.mark.parametrize("kind", ZIPS)
def test_refuses_zips(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill, cause = ZIPS[kind]
    path = tmp_path / "series.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        fill(zipped)
    small = ZipLimits(size=1 << 20)
    extract = zip_archive.extract
    monkeypatch.setattr(zip_archive, "extract", lambda a, f: extract(a, f, small))
    began = time.monotonic()
    refused(path, tmp_path, cause)
    assert time.monotonic() - began < 5
    assert not list(tmp_path.parent.glob("**/x.dcm"))


@pytest.mark.parametrize("count", [30_000, 100_000])
def test_a_zip_of_too_many_files_is_refused_unread(count: int, tmp_path: Path) -> None:
    """Only the last record is read; the rest of this file is padding."""
    entry = b"PK\1\2" + bytes(42) + b"x"
    record = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *[min(count, 0xFFFF)] * 2, 47 * count, 4, 0)
    path = tmp_path / "series.zip"
    path.write_bytes(b"PK\3\4" + entry * count + record)
    refused(path, tmp_path, "files, over the limit of 20,000 files")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "series.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        entry = zipfile.ZipInfo("link.dcm")
        entry.external_attr = 0o120777 << 16
        zipped.writestr(entry, "/etc/passwd")
    refused(path, tmp_path, "a link or a special file")


def test_a_cut_zip_is_refused(tmp_path: Path) -> None:
    folder, path = save(tmp_path / "in", series()), tmp_path / "series.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in folder.iterdir():
            zipped.write(file, file.name)
    content = path.read_bytes()
    for cut in (content[:500], content[:-30], content[:300] + b"\xff" * 40 + content[340:]):
        path.write_bytes(cut)
        refused(path, tmp_path, "damaged zip")
