"""Make small DICOM series and decode them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian
from scipy.spatial.transform import Rotation

from uncus.data.dicom import series as dicom_series
from uncus.data.errors import BadInput

MR, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
UID = "1.2.826.0.1.3680043.8.498.1"
LPS = np.diag([-1.0, -1, 1, 1])
AXIAL = np.diag([-2.0, -2, 3, 1])
AXIAL[:3, 3] = 8, 11, 5

Edit = Callable[[Dataset, int], None]
Floats = np.ndarray


def voxels(shape: tuple[int, int, int] = (10, 8, 6)) -> np.ndarray:
    """int16 [columns, rows, slices]"""
    return np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)


def blank(sop_class: str = MR, number: int = 0) -> FileDataset:
    """A dataset without pixels and geometry."""
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
    data.InstanceNumber = 1000 - number  # must not be used
    data.SliceThickness = 99
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    return data


def geometry(data: Dataset, affine: np.ndarray, index: int) -> tuple[list[float], ...]:
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
    """One dataset per slice of [columns, rows, slices]; ``edit`` changes each."""
    array = voxels() if array is None else array
    datasets = []
    for index in range(array.shape[2]):
        data = blank(MR, index)
        data.Columns, data.Rows = array.shape[:2]
        data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing = geometry(
            data, affine, index
        )
        data.PixelData = np.ascontiguousarray(array[:, :, index].T).tobytes()
        data["PixelData"].VR = "OW"
        if edit:
            edit(data, index)
        datasets.append(data)
    return datasets


def enhanced(array: np.ndarray | None = None, affine: np.ndarray = AXIAL) -> FileDataset:
    """The same as one Enhanced MR file, its frames in a shuffled order."""
    array = voxels() if array is None else array
    order = np.random.default_rng(1).permutation(array.shape[2])
    data = blank(ENHANCED)
    data.Columns, data.Rows = array.shape[:2]
    data.NumberOfFrames = len(order)
    frames = []
    for index in order:
        position, cosines, spacing = geometry(data, affine, int(index))
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
    """Write datasets to files in an order of names that is not the order of slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(datasets):
        pydicom.dcmwrite(folder / f"{prefix}{len(datasets) - index:04d}.dcm", data)
    return folder


def oblique() -> Floats:
    """AXIAL, rotated about all three axes."""
    affine = AXIAL.copy()
    affine[:3, :3] = (
        Rotation.from_euler("xyz", [12, -7, 20], degrees=True).as_matrix() @ (AXIAL[:3, :3])
    )
    return affine


def load(path: Path, tmp_path: Path, wanted: str = "") -> tuple[Floats, Floats, list[str]]:
    """Decode without the child process; returns voxels, affine and warnings."""
    out = tmp_path / f"out-{time.monotonic_ns()}"
    out.mkdir()
    result = dicom_series.load(out, [str(path)], str(path), wanted, 1 << 20)
    return np.load(out / "voxels.npy"), np.array(result["affine"]), result["warnings"]


def refused(path: Path, tmp_path: Path, cause: str, wanted: str = "") -> str:
    """Check that decoding raises one line that matches ``cause``; returns the line."""
    with pytest.raises(BadInput, match=cause) as caught:
        load(path, tmp_path, wanted)
    line = str(caught.value)
    assert "\n" not in line and "; " in line
    return line


def ras(array: Floats, affine: Floats) -> tuple[Floats, Floats]:
    """Voxels and affine in RAS+, by nibabel."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array, np.float32), affine))
    return np.asarray(image.dataobj), image.affine


def other_series(folder: Path, **tags: Any) -> None:
    """Add a second series of the same patient to a folder; ``tags`` override its header."""

    def edit(data: Dataset, index: int) -> None:
        data.SeriesInstanceUID, data.SeriesNumber = f"{UID}.2", 4
        data.SeriesDescription = "T1 again"
        for name, value in tags.items():
            setattr(data, name, value)

    save(folder, series(voxels() // 2, edit=edit), "other")


def tag(name: str, value: Any, only: int | None = None) -> Edit:
    """An edit that sets a tag, of slice ``only`` if given."""

    def edit(data: Dataset, index: int) -> None:
        if only is None or index == only:
            setattr(data, name, value)

    return edit


def without(name: str) -> Edit:
    """An edit that deletes a tag."""
    return lambda data, _: delattr(data, name)
