"""DICOM: what is sound is read where it lies, and each fault is refused in one line."""

import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from tests.dicom_files import AXIAL, UID, blank, enhanced, save, series, voxels
from uncus.data.dicom import frame, zip_archive
from uncus.data.dicom import series as dicom_series
from uncus.data.dicom.reader import is_dicom, list_series, read_series
from uncus.data.dicom.sandbox import ProcessLimits
from uncus.data.dicom.zip_archive import Caps
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import native_array, read_dicom, read_volume, write_native

MRI = Path(__file__).parents[4] / "shared" / "mri"
Floats = np.ndarray


def load(path: Path, tmp_path: Path, wanted: str = "") -> tuple[Floats, Floats, list[str]]:
    """What the child process would do, in this one."""
    out = tmp_path / f"out-{time.monotonic_ns()}"
    out.mkdir()
    answer = dicom_series.load(out, [str(path)], str(path), wanted, 1 << 20)
    return np.load(out / "voxels.npy"), np.array(answer["affine"]), answer["warnings"]


def refused(path: Path, tmp_path: Path, cause: str, wanted: str = "") -> str:
    with pytest.raises(BadInput, match=cause) as caught:
        load(path, tmp_path, wanted)
    line = str(caught.value)
    assert "\n" not in line and "; " in line
    return line


def ras(array: Floats, affine: Floats) -> tuple[Floats, Floats]:
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array, np.float32), affine))
    return np.asarray(image.dataobj), image.affine


def oblique(shear: float = 0.0) -> Floats:
    from scipy.spatial.transform import Rotation

    affine = AXIAL.copy()
    affine[:3, :3] = (
        Rotation.from_euler("xyz", [12, -7, 20], degrees=True).as_matrix() @ (AXIAL[:3, :3])
    )
    return affine


PLACES = {
    "supine": AXIAL,
    "feet first, prone": np.diag([1.0, -1, -1, 1]) @ AXIAL,
    "decubitus": np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AXIAL,
    "sagittal": np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]) @ AXIAL,
    "oblique": oblique(),
    "downwards": AXIAL @ np.diag([1.0, 1, -1, 1]),
}


@pytest.mark.parametrize("name", PLACES)
def test_every_position_of_the_patient_lies_right(name: str, tmp_path: Path) -> None:
    affine = PLACES[name]
    array, found, warnings = load(save(tmp_path / "in", series(affine=affine)), tmp_path)
    assert warnings == []
    (a, at), (b, expected) = ras(array, found), ras(voxels(), affine)
    np.testing.assert_allclose(at, expected, atol=1e-5)
    np.testing.assert_array_equal(a, b)


def test_rows_are_counted_from_the_bottom_as_dcm2niix_does(tmp_path: Path) -> None:
    array, affine, _ = load(save(tmp_path / "in", series()), tmp_path)
    np.testing.assert_array_equal(array, voxels()[:, ::-1])
    assert affine[1, 1] == 2  # a supine axial series comes out as LAS
    assert nib.aff2axcodes(affine) == ("L", "A", "S")


def test_rescaling_is_each_images_own(tmp_path: Path) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.RescaleSlope, data.RescaleIntercept = str(index + 0.5), "-7"

    array, _, _ = load(save(tmp_path / "in", series(edit=edit)), tmp_path)
    slopes = np.arange(6) + 0.5
    np.testing.assert_allclose(array, voxels()[:, ::-1] * slopes - 7)


def test_enhanced_multi_frame_is_the_same_volume(tmp_path: Path) -> None:
    one = load(save(tmp_path / "one", series(affine=oblique())), tmp_path)
    other = load(save(tmp_path / "other", [enhanced(affine=oblique())]), tmp_path)
    np.testing.assert_allclose(one[1], other[1], atol=1e-6)
    np.testing.assert_allclose(other[0], one[0] * 2 - 1)


def test_folder_zip_and_files_through_the_child_process(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    (folder / "notes.txt").write_text("not an image")
    packed = tmp_path / "series.zip"
    with zipfile.ZipFile(packed, "w") as zipped:
        for path in sorted(folder.iterdir()):
            zipped.write(path, f"a/b/{path.name}")
    plain = read_volume(folder)
    assert plain.warnings == ("Files that are no DICOM were left aside: notes.txt.",)
    files = read_dicom(tuple(folder.glob("*.dcm")))
    for other in (read_volume(packed), files):
        assert other.voxel_hash == plain.voxel_hash
        np.testing.assert_allclose(other.affine, plain.affine)
    write_native(tmp_path / "map.nii.gz", native_array(plain, plain.array), plain.native)
    written, expected = nib.load(tmp_path / "map.nii.gz"), ras(voxels(), AXIAL)
    again = nib.as_closest_canonical(written)
    np.testing.assert_allclose(again.affine, expected[1], atol=1e-5)
    np.testing.assert_array_equal(again.get_fdata(), expected[0])
    (found,) = list_series([packed])
    assert found["images"] == 6 and found["description"] == "T1 MPRAGE"


def other_series(folder: Path, **tags: Any) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.SeriesInstanceUID, data.SeriesNumber = f"{UID}.2", 4
        data.SeriesDescription = "T1 again"
        for name, value in tags.items():
            setattr(data, name, value)

    save(folder, series(voxels() // 2, edit=edit), "other")


def test_two_series_are_listed_and_one_can_be_chosen(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    other_series(folder)
    line = refused(folder, tmp_path, "holds 2 series")
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


def test_echoes_of_one_series_are_told_apart(tmp_path: Path) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.EchoTime, data.SOPInstanceUID = 5.0, f"{UID}.77.{index}"

    folder = save(tmp_path / "in", series(edit=lambda data, _: setattr(data, "EchoTime", 2.5)))
    save(folder, series(voxels() + 1, edit=edit), "echo")
    refused(folder, tmp_path, r"2 series: .*echo 2\.50 ms.*echo 5\.00 ms")
    refused(folder, tmp_path, "2 series called", f"{UID}.1")
    np.testing.assert_array_equal(load(folder, tmp_path, "2")[0], voxels()[:, ::-1] + 1)


def tag(name: str, value: Any, only: int | None = None) -> Callable[[Dataset, int], None]:
    def edit(data: Dataset, index: int) -> None:
        if only is None or index == only:
            setattr(data, name, value)

    return edit


def without(name: str) -> Callable[[Dataset, int], None]:
    return lambda data, _: delattr(data, name)


TURNED = tag("ImageOrientationPatient", [1, 0, 0, 0, 0, -1], only=2)
REFUSED: dict[str, tuple[Callable[[Dataset, int], None], str]] = {
    "truncated pixels": (
        lambda d, i: setattr(d, "PixelData", d.PixelData[: 60 if i == 3 else None]),
        "is truncated: 60 of 160 bytes",
    ),
    "rows that lie": (tag("Rows", 4), "has 160 bytes of pixels, not the 80"),
    "rows beyond the file": (tag("Rows", 60000), "truncated|cap"),
    "frames that lie": (tag("NumberOfFrames", 5), "5 frames but no positions"),
    "no pixels": (without("PixelData"), "has no pixels"),
    "mixed orientation": (TURNED, "mixes orientations, as a localizer"),
    "localizer": (tag("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), "is a localizer"),
    "CT": (tag("Modality", "CT"), r"not MR by its tags \(Modality CT\)"),
    "no modality": (
        lambda d, _: (delattr(d, "Modality"), setattr(d, "SOPClassUID", "1.2.3"))[0],
        "not MR by its tags",
    ),
    "phase": (tag("ImageType", ["ORIGINAL", "PRIMARY", "P"]), "is a phase image"),
    "knee": (tag("BodyPartExamined", "KNEE"), "not of a head by its tags"),
    "colours": (tag("PhotometricInterpretation", "RGB"), "colours"),
    "no position": (without("ImagePositionPatient"), "no ImagePositionPatient"),
    "position NaN": (tag("ImagePositionPatient", ["nan", 0, 0]), "makes no sense|damaged"),
    "no rotation": (tag("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "no rotation"),
    "pixel spacing 0": (tag("PixelSpacing", [0, 0]), "makes no sense"),
    "absurd slope": (tag("RescaleSlope", "1e30"), "absurd"),
    "sizes mixed": (
        lambda d, i: (setattr(d, "Rows", 10), setattr(d, "Columns", 8))[0] if i == 1 else None,
        "different sizes",
    ),
    "one place": (tag("ImagePositionPatient", [0, 0, 0]), "at one place"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refuses(fault: str, tmp_path: Path) -> None:
    edit, cause = REFUSED[fault]
    refused(save(tmp_path / "in", series(edit=edit)), tmp_path, cause)


def test_a_missing_slice_is_refused_and_a_copy_is_warned_of(tmp_path: Path) -> None:
    made = series()
    refused(save(tmp_path / "gap", made[:2] + made[3:]), tmp_path, "1 missing: 3.00 mm apart")
    array, _, warnings = load(save(tmp_path / "copy", [*made, made[2], made[4]]), tmp_path)
    assert warnings == ["2 slices are there twice; the copies were left out."]
    np.testing.assert_array_equal(array, voxels()[:, ::-1])
    made[2].PixelData = made[3].PixelData
    refused(save(tmp_path / "other", [*made, series()[2]]), tmp_path, "different images at the")
    refused(save(tmp_path / "4d", [*series(), *series(voxels() + 1)]), tmp_path, "4D: 2 images")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("BurnedInAnnotation", "YES", "burned into"),
        ("ContrastBolusAgent", "Gadolinium", "contrast agent"),
        ("EchoTime", 95.0, "T2-weighted by its tags"),
        ("MRAcquisitionType", "2D", "slice by slice"),
        ("RescaleSlope", "0", "taken as 1"),
        ("PhotometricInterpretation", "MONOCHROME1", "swapped back"),
    ],
)
def test_warns(name: str, value: Any, text: str, tmp_path: Path) -> None:
    _, _, warnings = load(save(tmp_path / "in", series(edit=tag(name, value))), tmp_path)
    assert len(warnings) == 1 and text in warnings[0]


def test_no_preamble_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    path = folder / "im0002.dcm"
    path.write_bytes(path.read_bytes()[132:])
    assert "im0002.dcm" in refused(folder, tmp_path, "has no preamble")
    path.write_bytes(b"")
    refused(folder, tmp_path, "is empty")
    assert is_dicom(folder) and is_dicom(path) and not is_dicom(Path(__file__))


def test_a_missing_codec_is_named(tmp_path: Path) -> None:
    made = series()
    for data in made:
        data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    folder = save(tmp_path / "in", made)
    line = refused(folder, tmp_path, "compressed as JPEG-LS Lossless")
    assert "not installed; install" in line or "cannot be unpacked" in line
    for path in folder.iterdir():
        path.write_bytes(
            path.read_bytes().replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.9.9.9.99")
        )
    refused(folder, tmp_path, "compressed as .*unsupported|cannot be unpacked|damaged")


def test_run_length_encoding_is_read(tmp_path: Path) -> None:
    made = series()
    for data in made:
        data.compress(pydicom.uid.RLELossless)
    array, _, _ = load(save(tmp_path / "in", made), tmp_path)
    np.testing.assert_array_equal(array, voxels()[:, ::-1])


def test_deflated_files_are_read_and_bombs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = series()
    for data in made:
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    folder = save(tmp_path / "in", made)
    np.testing.assert_array_equal(load(folder, tmp_path)[0], voxels()[:, ::-1])
    path = folder / "im0001.dcm"
    content = path.read_bytes()
    with path.open("rb") as stream:
        frame._skip_meta(stream)
        start = stream.tell()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(32 << 20)) + packer.flush()
    path.write_bytes(content[:start] + bomb)
    monkeypatch.setattr(frame, "MAX_INFLATED", 4 << 20)
    monkeypatch.setattr(pydicom, "dcmread", lambda *_, **__: pytest.fail("it was inflated"))
    with pytest.raises(BadInput, match="decompression bomb"):
        frame.read(zip_archive.Member(path, path.name), frame.TAGS)


def test_deep_nesting_is_bounded(tmp_path: Path) -> None:
    item, close = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), b"\xfe\xff\xdd\xe0\0\0\0\0"
    head = struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, 0xFFFFFFFF)
    for depth in (100, 20_000):
        folder = save(tmp_path / str(depth), series())
        path = folder / "im0003.dcm"
        path.write_bytes(path.read_bytes() + (head + item) * depth + close * depth)
        began = time.monotonic()
        try:
            load(folder, tmp_path)
        except BadInput as error:
            assert "deep" in str(error) or "damaged" in str(error)
        assert time.monotonic() - began < 20


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


def test_markup_in_names_is_inert(tmp_path: Path) -> None:
    def edit(data: Dataset, index: int) -> None:
        data.PatientName = "<script>alert(1)</script>"
        data.SeriesDescription = "\x1b[31mred\u202e <b>T1</b>"

    folder = save(tmp_path / "in", series(edit=edit))
    other_series(folder, PatientName="<script>alert(1)</script>")
    line = refused(folder, tmp_path, "2 series")
    assert not any(bad in line for bad in ("<script", "alert", "\x1b", "\u202e"))


ZIPS: dict[str, tuple[Callable[[zipfile.ZipFile], None], str]] = {
    "traversal": (lambda z: z.writestr("a/../../x.dcm", b"x"), "leads outside it"),
    "backslashes": (lambda z: z.writestr("..\\x.dcm", b"x"), "leads outside it"),
    "absolute": (lambda z: z.writestr("/etc/x.dcm", b"x"), "leads outside it"),
    "bomb": (lambda z: z.writestr("x.dcm", bytes(3 << 20)), "zip bomb"),
    "empty": (lambda z: None, "holds no files"),
    "no DICOM": (lambda z: [z.writestr(n, b"x" * 200) for n in "ab"] and None, "no DICOM file"),
}


@pytest.mark.parametrize("kind", ZIPS)
def test_refuses_zips(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill, cause = ZIPS[kind]
    path = tmp_path / "series.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        fill(zipped)
    small = Caps(size=1 << 20)
    extract = zip_archive.extract
    monkeypatch.setattr(zip_archive, "extract", lambda a, f: extract(a, f, small))
    began = time.monotonic()
    refused(path, tmp_path, cause)
    assert time.monotonic() - began < 5
    assert not list(tmp_path.parent.glob("**/x.dcm"))


@pytest.mark.parametrize("count", [30_000, 100_000])
def test_a_zip_of_too_many_files_is_refused_unread(count: int, tmp_path: Path) -> None:
    """Only its last record is looked at, which is all that this file has besides padding."""
    entry = b"PK\1\2" + bytes(42) + b"x"
    record = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *[min(count, 0xFFFF)] * 2, 47 * count, 4, 0)
    path = tmp_path / "series.zip"
    path.write_bytes(b"PK\3\4" + entry * count + record)
    refused(path, tmp_path, "files, over the cap of 20,000 files")


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


def test_the_child_process_is_bounded(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    with pytest.raises(BadInput, match=r"more than 0\.01 s to decode"):
        read_series([folder], limits=ProcessLimits(seconds=0.01))
    with pytest.raises(BadInput, match=r"memory|crash"):
        read_series([folder], limits=ProcessLimits(memory=1 << 27))


def test_absent_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not there"):
        read_series([tmp_path / "x.dcm"])
    (tmp_path / "x.dcm").write_bytes(b"")
    with pytest.raises(BadInput, match="is empty"):
        read_volume(tmp_path / "x.dcm")


@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
def test_a_real_series_lies_right() -> None:
    """Philips MPRAGE, sagittal: the affine that dcm2niix's conventions give, and its voxels."""
    volume = read_volume(MRI / "heads" / "philips-mprage-dicom.zip")
    assert volume.array.shape == (170, 256, 256) and volume.native.axcodes == "PSR"
    np.testing.assert_allclose(volume.spacing, 1, atol=1e-4)
    # The first file's first pixel is at (82.67, -133.00, 138.46) in DICOM's LPS.
    corner = np.linalg.solve(volume.affine, [-82.6728, 133.0046, 138.4588, 1])[:3]
    np.testing.assert_allclose(corner, np.rint(corner), atol=1e-3)
    assert volume.warnings == ()


@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
def test_a_real_head_as_dicom_equals_its_nifti(tmp_path: Path) -> None:
    image = nib.load(MRI / "heads" / "aomic-0001_T1w.nii.gz")
    thin = np.asarray(image.dataobj)[:, :, 100:140]
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 100
    stored = np.rint(thin).astype(np.int16)
    volume = read_volume(save(tmp_path / "in", series(stored, affine)))
    expected, at = ras(stored, affine)
    np.testing.assert_array_equal(volume.array, expected)
    np.testing.assert_allclose(volume.affine, at, atol=1e-4)


def test_an_enhanced_file_that_miscounts_its_frames_is_refused(tmp_path: Path) -> None:
    made = enhanced()
    made.NumberOfFrames = 7
    refused(save(tmp_path / "in", [made]), tmp_path, "says 7 frames but describes 6")
