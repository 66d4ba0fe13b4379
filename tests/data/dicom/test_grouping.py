"""What else is in a study's folder than volumes is a series of its own, left aside."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.dicom_files import AXIAL, MR, UID, blank, load, refused, save, series, tag, voxels
from uncus.data.dicom import series as dicom_series

SC, MULTI_FRAME_SC = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.2"
PRESENTATION, SPECTROSCOPY = "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.4.2"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def image(sop_class: str = SC, uid: str = f"{UID}.9", **tags: Any) -> Dataset:
    """One image without geometry; ``tags`` override its header, None deletes."""
    data = blank(sop_class, 98)
    data.SeriesInstanceUID, data.SeriesNumber, data.SeriesDescription = uid, 99, "screen save"
    data.ImageType, data.Rows, data.Columns = ["DERIVED", "SECONDARY"], 8, 10
    data.PixelData = bytes(160)
    data["PixelData"].VR = "OW"
    for name, value in tags.items():
        delattr(data, name) if value is None else setattr(data, name, value)
    return data


def placed(**tags: Any) -> list[Dataset]:
    """A series with geometry, of three images."""

    def edit(data: Dataset, index: int) -> None:
        data.SeriesInstanceUID, data.SeriesNumber = f"{UID}.8", 1
        data.SeriesDescription = "other"
        for name, value in tags.items():
            setattr(data, name, value)

    return list(series(voxels()[:, :, :3], edit=edit))


def three_planes() -> list[Dataset]:
    images = placed()
    for data, cosines in zip(images, ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]), strict=False):
        data.ImageOrientationPatient = cosines
    return images


ASIDE: dict[str, tuple[list[Dataset], str]] = {
    "secondary capture": ([image()], "has no ImagePositionPatient"),
    "capture of modality OT": ([image(Modality="OT")], "is not MR by its tags (Modality OT)"),
    "capture in the scan's series": ([image(uid=f"{UID}.1")], "has no ImagePositionPatient"),
    "capture of another size": ([image(Rows=512, Columns=400)], "has no ImagePositionPatient"),
    "screen save as MR": ([image(MR)], "has no ImagePositionPatient"),
    "color": (
        [image(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)],
        "is a color image by its tags",
    ),
    "multi-frame capture": ([image(MULTI_FRAME_SC, NumberOfFrames=2)], "has 2 frames but no pos"),
    "capture with false frames": ([image(NumberOfFrames=0)], "declares 0 frames"),
    "spectroscopy": ([image(SPECTROSCOPY, Rows=1, Columns=1)], "is a spectrum by its tags"),
    "spectroscopy in a plane": (placed(SOPClassUID=SPECTROSCOPY), "is a spectrum by its tags"),
    "one pixel": ([image(Rows=1, Columns=1)], "has 1 rows of 1 pixels"),
    "segmentation": ([image(SEGMENTATION, Modality="SEG", NumberOfFrames=3)], "Modality SEG"),
    "CT": (placed(Modality="CT"), "is not MR by its tags (Modality CT)"),
    "localizer": (placed(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "is a localizer"),
    "localizer in the scan's series": (
        placed(SeriesInstanceUID=f"{UID}.1", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "is a localizer by its tags",
    ),
    "localizer by its planes": (three_planes(), "mixes orientations"),
    "localizer by its name": (placed(SeriesDescription="AAHead_Scout"), "by its description"),
    "localizer in other words": (placed(SeriesDescription="tra_pilot"), "by its description"),
    "capture with a place": (placed(SOPClassUID=SC), "is no MR image but a capture"),
    "parametric map": (placed(SOPClassUID=f"{SC[:-1]}30"), "is no MR image but a capture"),
    "planes of the scan": (
        placed(ImageType=["DERIVED", "SECONDARY", "MPR", "CSA MPR"], SeriesDescription="T1 MPRAGE"),
        "was computed from another series by its tags (MPR)",
    ),
    "two slices": (placed()[:2], "has 2 images only"),
    "palette": (placed(PhotometricInterpretation="PALETTE COLOR"), "is a color image by its tags"),
    "single slice": (placed()[:1], "has images at one position only"),
    "phase": (placed(ImageType=["ORIGINAL", "PRIMARY", "P"]), "is a phase image"),
    "knee": (placed(BodyPartExamined="KNEE"), "is not of a head"),
}

DOUBTFUL = {  # not refused if chosen
    "localizer by its name",
    "localizer in other words",
    "capture with a place",
    "parametric map",
    "planes of the scan",
    "two slices",
}


@pytest.mark.parametrize("what", ASIDE)
def test_other_objects_are_listed_and_left_aside(what: str, tmp_path: Path) -> None:
    objects, cause = ASIDE[what]
    folder = save(tmp_path / "in", series())
    save(folder, objects, "other")
    for wanted in ("", "MPRAGE", f"{UID}.1"):
        array, affine, warnings = load(folder, tmp_path, wanted)
        np.testing.assert_array_equal(array, voxels()[:, ::-1])
        assert affine[2, 2] == AXIAL[2, 2]
    _, _, warnings = load(folder, tmp_path)
    assert len(warnings) == 1 and warnings[0].startswith("Left aside: ") and cause in warnings[0]
    listed = dicom_series.list_series(tmp_path, [str(folder)], "")
    assert sorted(bool(one["aside"]) for one in listed) == [False, True]
    number = next(n for n, one in enumerate(listed, 1) if one["aside"])
    if what not in DOUBTFUL:
        refused(folder, tmp_path, re.escape(cause), str(number))


def test_objects_without_pixels_are_ignored(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    state = image(PRESENTATION, Modality="PR", Rows=None, Columns=None, PixelData=None)
    save(folder, [state], "state")
    array, _, warnings = load(folder, tmp_path)
    np.testing.assert_array_equal(array, voxels()[:, ::-1])
    assert warnings == ["1 DICOM objects without pixels were ignored."]


def test_a_damaged_scan_is_not_replaced_by_another(tmp_path: Path) -> None:
    """Where a slice of one scan is damaged, the other scan is not chosen in its place."""
    folder = save(tmp_path / "in", series())
    other = placed(SeriesDescription="T2")
    save(folder, other, "other")
    path = folder / "im0003.dcm"
    data = pydicom.dcmread(path)
    del data.ImagePositionPatient
    data.save_as(path)
    refused(folder, tmp_path, "contains 2 series: 1: 'T2' .*2: 'T1 MPRAGE'")
    refused(folder, tmp_path, "im0003.dcm: has no ImagePositionPatient", "MPRAGE")
    assert load(folder, tmp_path, "T2")[0].shape == (10, 8, 3)


def test_a_folder_of_other_objects_only_lists_them(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", [image()])
    refused(folder, tmp_path, "has no ImagePositionPatient")
    save(folder, placed(Modality="CT"), "ct")
    refused(folder, tmp_path, "contains 2 series: 1: 'other' .*, 2: 'screen save' .MR, 1 image of")
    only = save(tmp_path / "scout", series(edit=tag("SeriesDescription", "Survey T1")))
    assert load(only, tmp_path)[0].shape == (10, 8, 6)


@pytest.mark.parametrize("text", ["HEAD_NECK", "Sch\xe4del", "WHOLEBODY", "Cr\xe2ne", "brain "])
def test_a_head_by_other_words(text: str, tmp_path: Path) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.SpecificCharacterSet, data.BodyPartExamined = "ISO_IR 100", text

    with (
        pytest.warns(UserWarning, match="Invalid value") if text.upper() != text else nullcontext()
    ):
        datasets = series(edit=edit)
        folder = save(tmp_path / "in", datasets)
    assert load(folder, tmp_path)[0].shape == (10, 8, 6)


def test_planes_of_a_scan_are_read_where_they_are_all_there_is(tmp_path: Path) -> None:
    types = ["DERIVED", "SECONDARY", "MPR"]
    folder = save(tmp_path / "in", series(edit=tag("ImageType", types)))
    assert load(folder, tmp_path)[0].shape == (10, 8, 6)
