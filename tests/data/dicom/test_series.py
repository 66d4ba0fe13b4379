"""Series are sorted out of files and chosen; other files do no harm."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from tests.dicom_files import UID, load, other_series, refused, save, series, voxels


def test_two_series_are_listed_and_one_can_be_chosen(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    other_series(folder)
    line = refused(folder, tmp_path, "contains 2 series")
    assert "1: 'T1 MPRAGE' (MR, 6 images of 10 x 8), 2: 'T1 again'" in line and "--series" in line
    for wanted in ("2", f"{UID}.2"):
        array, _, _ = load(folder, tmp_path, wanted)
        np.testing.assert_array_equal(array, (voxels() // 2)[:, ::-1])
    refused(folder, tmp_path, "no series called 3", "3")


def test_two_patients_are_refused_without_their_names(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    other_series(folder, PatientID="P2")
    line = refused(folder, tmp_path, "2 patients", "1")
    assert "P2" not in line and "Somebody" not in line


def test_echoes_of_one_series_are_distinguished(tmp_path: Path) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.EchoTime, data.SOPInstanceUID = 5.0, f"{UID}.77.{index}"

    folder = save(tmp_path / "in", series(edit=lambda data, _: setattr(data, "EchoTime", 2.5)))
    save(folder, series(voxels() + 1, edit=edit), "echo")
    refused(folder, tmp_path, r"2 series: .*echo 2\.50 ms.*echo 5\.00 ms")
    refused(folder, tmp_path, "2 series called", f"{UID}.1")
    np.testing.assert_array_equal(load(folder, tmp_path, "2")[0], voxels()[:, ::-1] + 1)


def test_markup_in_names_is_inert(tmp_path: Path) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.PatientName = "<script>alert(1)</script>"
        data.SeriesDescription = "\x1b[31mred\u202e <b>T1</b>"

    folder = save(tmp_path / "in", series(edit=edit))
    other_series(folder, PatientName="<script>alert(1)</script>")
    line = refused(folder, tmp_path, "2 series")
    assert not any(bad in line for bad in ("<script", "alert", "\x1b", "\u202e"))
