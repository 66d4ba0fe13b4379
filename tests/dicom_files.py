"""Small DICOM series made by the tests themselves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian

MR, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
UID = "1.2.826.0.1.3680043.8.498.1"
LPS = np.diag([-1.0, -1, 1, 1])
AXIAL = np.diag([-2.0, -2, 3, 1])
AXIAL[:3, 3] = 8, 11, 5

Edit = Callable[[Dataset, int], None]


def voxels(shape: tuple[int, int, int] = (10, 8, 6)) -> np.ndarray:
    """int16 [columns, rows, slices]"""
    return np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)


def blank(sop_class: str = MR, number: int = 0) -> FileDataset:
    """A dataset with all but the pixels and their place."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = f"{UID}.9.{number + 1}"
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.StudyInstanceUID = f"{UID}.1", f"{UID}.0"
    data.PatientID, data.PatientName, data.Modality = "P1", "Somebody^Unnamed", "MR"
    data.SeriesDescription, data.SeriesNumber = "T1 MPRAGE", 3
    data.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    data.InstanceNumber = 1000 - number  # never to be trusted
    data.SliceThickness = 99
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    return data


def place(data: Dataset, affine: np.ndarray, index: int) -> tuple[list[float], ...]:
    """Position, orientation and spacing of slice ``index`` by ``affine`` (RAS+, mm)."""
    lps = LPS @ affine
    column, row = lps[:3, 0], lps[:3, 1]
    sizes = np.linalg.norm(column), np.linalg.norm(row)
    position = lps[:3, 3] + index * lps[:3, 2]
    cosines = [*(column / sizes[0]), *(row / sizes[1])]
    tidy = [[round(float(v), 9) for v in values] for values in (position, cosines)]
    return tidy[0], tidy[1], [float(sizes[1]), float(sizes[0])]


def series(
    array: np.ndarray | None = None, affine: np.ndarray = AXIAL, edit: Edit | None = None
) -> list[FileDataset]:
    """One dataset a slice of [columns, rows, slices]; ``edit`` changes each before it is kept."""
    array = voxels() if array is None else array
    made = []
    for index in range(array.shape[2]):
        data = blank(MR, index)
        data.Columns, data.Rows = array.shape[:2]
        data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing = place(
            data, affine, index
        )
        data.PixelData = np.ascontiguousarray(array[:, :, index].T).tobytes()
        data["PixelData"].VR = "OW"
        if edit:
            edit(data, index)
        made.append(data)
    return made


def enhanced(array: np.ndarray | None = None, affine: np.ndarray = AXIAL) -> FileDataset:
    """The same as one Enhanced MR file, its frames in a shuffled order."""
    array = voxels() if array is None else array
    order = np.random.default_rng(1).permutation(array.shape[2])
    data = blank(ENHANCED)
    data.Columns, data.Rows = array.shape[:2]
    data.NumberOfFrames = len(order)
    frames = []
    for index in order:
        position, cosines, spacing = place(data, affine, int(index))
        frame = Dataset()
        frame.PlanePositionSequence = Items([Dataset()])
        frame.PlanePositionSequence[0].ImagePositionPatient = position
        frame.PixelValueTransformationSequence = Items([Dataset()])
        frame.PixelValueTransformationSequence[0].RescaleSlope = "2"
        frame.PixelValueTransformationSequence[0].RescaleIntercept = "-1"
        frames.append(frame)
    shared = Dataset()
    shared.PlaneOrientationSequence = Items([Dataset()])
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = cosines
    shared.PixelMeasuresSequence = Items([Dataset()])
    shared.PixelMeasuresSequence[0].PixelSpacing = spacing
    data.SharedFunctionalGroupsSequence = Items([shared])
    data.PerFrameFunctionalGroupsSequence = Items(frames)
    data.PixelData = b"".join(np.ascontiguousarray(array[:, :, i].T).tobytes() for i in order)
    data["PixelData"].VR = "OW"
    return data


def save(folder: Path, datasets: Sequence[Any], prefix: str = "im") -> Path:
    """Write datasets as files whose names' order is not that of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(datasets):
        pydicom.dcmwrite(folder / f"{prefix}{len(datasets) - index:04d}.dcm", data)
    return folder
