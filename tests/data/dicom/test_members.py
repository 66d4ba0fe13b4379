"""Files in folders: DICOM is recognized, paths that lead outside are refused."""

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


def test_a_folder_of_links_is_a_folder_of_files(tmp_path: Path) -> None:
    """Broken links and hidden files are reported; a link to a folder above is no endless loop."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, path in enumerate(sorted(save(tmp_path / "store", series()).iterdir())):
        (folder / f"{number}.dcm").symlink_to(path)
    np.testing.assert_array_equal(load(folder, tmp_path)[0], voxels()[:, ::-1])
    (folder / "9.dcm").symlink_to(tmp_path / "gone.dcm")
    (folder / "up").symlink_to(folder)
    (folder / "._0.dcm").write_bytes(b"Mac OS X")
    array, _, warnings = load(folder, tmp_path)
    np.testing.assert_array_equal(array, voxels()[:, ::-1])
    assert [line.split(",")[0] for line in warnings] == [
        "Hidden files",
        "Links to files that are missing",
        "Links to a folder above them",
    ]


def test_a_pointer_names_the_remedy(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    (folder / "im0002.dcm").write_text("../.git/annex/objects/x/y/MD5E-s9--a.dcm")
    refused(folder, tmp_path, "im0002.dcm: a pointer of git-annex.*; fetch it.*datalad get")
