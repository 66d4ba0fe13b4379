"""Files in folders: DICOM is recognized, links and paths that lead outside are not followed."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from tests.dicom_files import blank, load, refused, save, series, voxels
from uncus.data.dicom.reader import is_dicom


def test_no_preamble_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    path = folder / "im0002.dcm"
    path.write_bytes(path.read_bytes()[132:])
    assert "im0002.dcm" in refused(folder, tmp_path, "has no preamble")
    path.write_bytes(b"")
    refused(folder, tmp_path, "is empty")
    assert is_dicom(folder) and is_dicom(path) and not is_dicom(Path(__file__))


def test_a_dicomdir_that_leads_outside_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    directory = blank("1.2.840.10008.1.3.10")
    record = Dataset()
    record.ReferencedFileID = ["IMAGES", "im0001.dcm"]
    directory.DirectoryRecordSequence = Items([record])
    pydicom.dcmwrite(folder / "DICOMDIR", directory)
    assert load(folder, tmp_path)[2] == []
    record.ReferencedFileID = ["..", "..", "etc", "passwd"]
    pydicom.dcmwrite(folder / "DICOMDIR", directory)
    refused(folder, tmp_path, r"leads outside its folder \(\.\./\.\./etc/passwd\)")


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    save(tmp_path / "elsewhere", series(voxels() + 1))
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "link.dcm").symlink_to(tmp_path / "elsewhere" / "im0001.dcm")
    np.testing.assert_array_equal(load(folder, tmp_path)[0], voxels()[:, ::-1])
