"""What an upload is, its bytes say; its names stay out of the file system."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uncus.app import uploads
from uncus.app.uploads import kind, store
from uncus.data.errors import BadInput


@dataclass
class File:
    name: str
    content: bytes

    def getbuffer(self) -> memoryview:
        return memoryview(self.content)


IMAGE = nib.Nifti1Image(np.arange(27, dtype=np.int16).reshape(3, 3, 3), np.eye(4))
NII = IMAGE.to_bytes()
NII2 = nib.Nifti2Image(IMAGE.get_fdata(), np.eye(4)).to_bytes()
MGH = nib.MGHImage(np.ones((3, 3, 3), np.float32), np.eye(4)).to_bytes()
DCM = b"\0" * 128 + b"DICM" + b"\2\0"
ZIP = b"PK\x05\x06" + b"\0" * 18


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (NII, ".nii"),
        (NII2, ".nii"),
        (gzip.compress(NII), ".nii.gz"),
        (MGH, ".mgh"),
        (gzip.compress(MGH), ".mgz"),
        (ZIP, ".zip"),
        (DCM, ".dcm"),
        (b"plain text that is called scan.nii", ""),
        (gzip.compress(b"text"), ""),
        (b"\x1f\x8bno gzip", ""),
        (b"%PDF-1.7", ""),
        (b"", ""),
    ],
    ids=range(12),  # bytes make long names, and gzip's hold the time
)
def test_the_content_says_what_it_is(content: bytes, suffix: str, tmp_path: Path) -> None:
    assert kind(content) == suffix
    upload = File("../../etc/passwd\u202e" + "x" * 1000 + ".nii", content)
    if not suffix:
        with pytest.raises(BadInput, match="empty" if not content else "not a supported scan"):
            store([upload], tmp_path)
        assert not list(tmp_path.iterdir())
        return
    path = store([upload], tmp_path)
    assert path == tmp_path / f"scan{suffix}" and path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = store([File(f"{k}/../IM{k}", DCM) for k in range(3)], tmp_path)
    assert sorted(path.name for path in series.iterdir()) == [f"0000{k}.dcm" for k in range(3)]
    header, voxels = bytearray(NII[:348]), NII[352:]
    header[344:348] = b"ni1\0"
    (tmp_path / "pair").mkdir()
    pair = [File("a.img", voxels), File("a.HDR", bytes(header))]
    assert store(pair, tmp_path / "pair").name == "scan.hdr"
    with pytest.raises(BadInput, match="without its voxels"):
        store(pair[1:], tmp_path)
    with pytest.raises(BadInput, match="Several scans"):
        store([File("a.nii", NII), File("b.nii", NII)], tmp_path)
    with pytest.raises(BadInput, match="2,001 files"):
        store([File("x", DCM)] * 2001, tmp_path)
    monkeypatch.setattr(uploads, "LIMIT", 0)
    with pytest.raises(BadInput, match="MiB at most"):
        store([File("a.nii", NII)], tmp_path)
