"""Reading scans: every fault has its own file, and what is fine is read right."""

import gzip
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from uncus.data.errors import BadInput
from uncus.data.imageio import gzip_stream
from uncus.data.imageio.volume import Limits, native_array, read_volume, write_native

MRI = Path(__file__).parents[4] / "shared" / "mri"
SHAPE = (9, 11, 7)
AFFINE = np.array([[2.0, 0, 0, -8], [0, 2, 0, -11], [0, 0, 3, 5], [0, 0, 0, 1]])


def voxels(dtype: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)


def save(path: Path, array: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(voxels() if array is None else array, affine), path)
    return path


def patched(path: Path, *edits: tuple[int, str, Any], kind: str = "<") -> Path:
    """A sound .nii with some header fields (offset, struct code, value) overwritten."""
    save(path)
    content = bytearray(path.read_bytes())
    for offset, code, value in edits:
        values = value if isinstance(value, tuple) else (value,)
        struct.pack_into(kind + code, content, offset, *values)
    path.write_bytes(content)
    return path


DIM, DATATYPE, BITPIX, PIXDIM, OFFSET, SLOPE, INTER = 40, 70, 72, 76, 108, 112, 116
UNITS, QFORM, SFORM, QUATERN, SROW = 123, 252, 254, 256, 280
IN_METRES = (
    (PIXDIM + 4, "3f", (0.002, 0.002, 0.003)),
    (SROW, "12f", (0.002, 0, 0, -0.008, 0, 0.002, 0, -0.011, 0, 0, 0.003, 0.005)),
)
NAN, INF = float("nan"), float("inf")

REFUSED: dict[str, tuple[tuple[tuple[int, str, Any], ...], str]] = {
    "dims larger than the file": (((DIM, "8h", (3, 500, 500, 500, 1, 1, 1, 1)),), "truncated"),
    "negative dim": (((DIM, "4h", (3, 9, -11, 7)),), "no sense"),
    "zero dim": (((DIM, "4h", (3, 9, 0, 7)),), "no sense"),
    "nine axes": (((DIM, "h", 9),), "no sense"),
    "no axes": (((DIM, "h", 0),), "no sense"),
    "inconsistent dim": (((DIM, "8h", (3, 9, 11, 7, 4, 1, 1, 1)),), "contradict"),
    "2D by axes": (((DIM, "8h", (2, 9, 11, 1, 1, 1, 1, 1)),), "not a 3D"),
    "2D by size": (((DIM, "8h", (3, 9, 11, 1, 1, 1, 1, 1)),), "not a 3D"),
    "4D": (((DIM, "8h", (4, 9, 11, 3, 2, 1, 1, 1)),), "4D: 2 volumes"),
    "unknown datatype": (((DATATYPE, "h", 77),), "unknown (code 77)"),
    "complex": (((DATATYPE, "h", 32), (BITPIX, "h", 64)), "complex"),
    "RGB": (((DATATYPE, "h", 128), (BITPIX, "h", 24)), "RGB"),
    "absurd slope": (((SLOPE, "f", 1e30),), "absurd"),
    "infinite slope": (((SLOPE, "f", INF),), "absurd"),
    "infinite intercept": (((SLOPE, "2f", (1.0, INF)),), "absurd"),
    "offset NaN": (((OFFSET, "f", NAN),), "offset"),
    "offset inside the header": (((OFFSET, "f", 100.0),), "offset"),
    "offset huge": (((OFFSET, "f", 1e9),), "truncated"),
    "pixdim zero": (((PIXDIM + 4, "f", 0.0),), "voxel size"),
    "pixdim NaN": (((PIXDIM + 8, "f", NAN),), "voxel size"),
    "affine NaN": (((SROW, "f", NAN),), "NaN"),
    "affine singular": (((SROW, "12f", (1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0)),), "singular"),
    "affine zero": (((SROW, "12f", (0,) * 12),), "singular"),
    "voxels of metres": (((UNITS, "B", 1),), "voxel sizes of 2000, 2000, 3000 mm"),
    "affine huge": (((SROW, "f", 1e30),), "affine"),
    "no signature": (((344, "4s", b"abc\0"),), "signature"),
    "signature of a pair": (((344, "4s", b"ni1\0"),), "signature"),
    "not NIfTI": (((0, "i", 1234),), "not a NIfTI"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refuses_a_bad_header(fault: str, tmp_path: Path) -> None:
    edits, cause = REFUSED[fault]
    path = patched(tmp_path / "scan.nii", *edits)
    with pytest.raises(BadInput, match=re.escape(cause)) as caught:
        read_volume(path)
    line = str(caught.value)
    assert line.startswith(str(path)) and "; " in line and "\n" not in line


WARNED: dict[str, tuple[tuple[tuple[int, str, Any], ...], str]] = {
    "slope 0": (((SLOPE, "f", 0.0),), "slope is 0"),
    "slope NaN": (((SLOPE, "f", NAN),), "slope is nan"),
    "intercept NaN": (((SLOPE, "2f", (1.0, NAN)),), "intercept is NaN"),
    "both codes 0": (((QFORM, "2h", (0, 0)),), "orientation unknown"),
    "transforms disagree": (((QFORM, "h", 1), (QUATERN + 12, "f", 50.0)), "disagree"),
    "pixdim disagrees": (((PIXDIM + 4, "f", 5.0),), "disagree"),
    "negative pixdim": (((PIXDIM + 4, "f", -2.0),), "negative"),
    "bitpix": (((BITPIX, "h", 32),), "bitpix"),
    "offset 0": (((OFFSET, "f", 0.0),), "offset is 0"),
    "metres": (((UNITS, "B", 1), *IN_METRES), "millimetres"),
}


@pytest.mark.parametrize("oddity", WARNED)
def test_warns_of_an_odd_header(oddity: str, tmp_path: Path) -> None:
    edits, text = WARNED[oddity]
    volume = read_volume(patched(tmp_path / "scan.nii", *edits))
    assert [w for w in volume.warnings if text in w], volume.warnings
    assert len(volume.warnings) == 1
    np.testing.assert_array_equal(np.sort(volume.array.ravel()), np.sort(voxels().ravel()))


def test_a_sound_file_gives_no_warning(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "scan.nii.gz"))
    assert volume.warnings == ()
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, voxels())
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert volume.spacing == (2, 2, 3)


def test_the_sform_wins_over_the_qform(tmp_path: Path) -> None:
    edits, _ = WARNED["transforms disagree"]
    volume = read_volume(patched(tmp_path / "scan.nii", *edits))
    np.testing.assert_allclose(volume.affine, AFFINE)


def test_positions_in_metres_become_millimetres(tmp_path: Path) -> None:
    volume = read_volume(patched(tmp_path / "scan.nii", (UNITS, "B", 1), *IN_METRES))
    np.testing.assert_allclose(volume.affine, AFFINE, rtol=1e-6)


def broken(kind: str, path: Path) -> str:
    """Write a broken file of this kind; returns what the refusal must say."""
    save(path)
    content = path.read_bytes()
    plain = gzip.decompress(content)
    crc = len(content) - 8
    match kind:
        case "empty":
            path.write_bytes(b"")
            return "empty"
        case "header cut":
            path.write_bytes(gzip.compress(plain[:200]))
            return "header is truncated"
        case "voxels cut":
            path.write_bytes(gzip.compress(plain[:-100]))
            return "truncated"
        case "gzip cut":
            path.write_bytes(content[:-20])
            return "truncated"
        case "plain data":
            path.write_bytes(plain)
            return "not gzip"
        case "wrong CRC":
            flipped = bytes([content[crc] ^ 1])
            path.write_bytes(content[:crc] + flipped + content[crc + 1 :])
            return "CRC"
        case "garbage inside":
            path.write_bytes(content[:400] + b"\xff" * 60 + content[460:])
            return "damaged gzip"
        case "text":
            path.write_bytes(gzip.compress(b"participant_id\tage\n" * 60))
            return "text"
    raise AssertionError(kind)


BROKEN = [
    "empty",
    "header cut",
    "voxels cut",
    "gzip cut",
    "plain data",
    "wrong CRC",
    "garbage inside",
    "text",
]


@pytest.mark.parametrize("kind", BROKEN)
def test_refuses_a_broken_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    cause = broken(kind, path)
    with pytest.raises(BadInput, match=cause):
        read_volume(path)


def test_refuses_gzip_data_named_nii_and_says_how_to_name_it(tmp_path: Path) -> None:
    save(tmp_path / "scan.nii.gz").rename(tmp_path / "scan.nii")
    with pytest.raises(BadInput, match=r"gzip data; rename it to scan\.nii\.gz"):
        read_volume(tmp_path / "scan.nii")


def test_refuses_text_named_nii(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_text("not a scan\n")
    with pytest.raises(BadInput, match="is text"):
        read_volume(tmp_path / "scan.nii")


def test_refuses_other_names_and_absent_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"give one of \.nii\.gz"):
        read_volume(tmp_path / "scan.png")
    with pytest.raises(BadInput, match="not there"):
        read_volume(tmp_path / "scan.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(BadInput, match="not a file"):
        read_volume(tmp_path / "folder.nii")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_warns_of_trailing_bytes(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / name)
    path.write_bytes(path.read_bytes() + b"\0" * 77)
    volume = read_volume(path)
    assert volume.warnings == ("77 bytes follow the voxels; they were ignored.",)
    np.testing.assert_array_equal(volume.array, voxels())


def test_joins_gzip_members(tmp_path: Path) -> None:
    plain = save(tmp_path / "scan.nii").read_bytes()
    path = tmp_path / "members.nii.gz"
    path.write_bytes(gzip.compress(plain[:500]) + gzip.compress(plain[500:]))
    np.testing.assert_array_equal(read_volume(path).array, voxels())


class TestBombs:
    """Nothing is inflated or allocated beyond what a checked header declares."""

    @pytest.fixture
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Bytes given out by the inflater, piece by piece."""
        given: list[int] = []
        pieces = gzip_stream._pieces

        def counting(file: gzip_stream.RawFile, step: int) -> Any:
            for piece in pieces(file, step):
                given.append(len(piece))
                yield piece

        monkeypatch.setattr(gzip_stream, "_pieces", counting)
        return given

    def test_content_far_beyond_the_header(self, tmp_path: Path, counted: list[int]) -> None:
        plain = save(tmp_path / "scan.nii").read_bytes()
        path = tmp_path / "bomb.nii.gz"
        path.write_bytes(gzip.compress(plain + b"\0" * (64 << 20)))
        with pytest.raises(BadInput, match="bomb"):
            read_volume(path)
        assert sum(counted) < 4 << 20

    def test_header_over_the_voxel_cap(self, tmp_path: Path, counted: list[int]) -> None:
        plain = patched(tmp_path / "scan.nii", (DIM, "4h", (3, 2048, 2048, 512))).read_bytes()
        path = tmp_path / "claims.nii.gz"
        path.write_bytes(gzip.compress(plain + b"\0" * (16 << 20)))
        with pytest.raises(BadInput, match="over the cap"):
            read_volume(path)
        assert sum(counted) < 2 << 10

    def test_header_beyond_what_gzip_can_hold(self, tmp_path: Path, counted: list[int]) -> None:
        plain = patched(tmp_path / "scan.nii", (DIM, "4h", (3, 400, 400, 400))).read_bytes()
        path = tmp_path / "claims.nii.gz"
        path.write_bytes(gzip.compress(plain))
        with pytest.raises(BadInput, match="more than the file can hold"):
            read_volume(path)
        assert sum(counted) < 2 << 10

    def test_the_cap_is_an_option(self, tmp_path: Path) -> None:
        path = save(tmp_path / "scan.nii.gz")
        with pytest.raises(BadInput, match="over the cap of 100"):
            read_volume(path, Limits(voxels=100))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_few_bad_voxels_become_zero_and_many_are_refused(value: float, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(5, 1, (20, 20, 20)).astype(np.float32)
    array[0, 0, :8] = value  # exactly 0.1 %
    volume = read_volume(save(tmp_path / "few.nii.gz", array))
    assert [w for w in volume.warnings if w.startswith("8 voxels were NaN")]
    assert (volume.array == 0).sum() == 8 and np.isfinite(volume.array).all()
    array[0, 1, 0] = value
    with pytest.raises(BadInput, match="NaN or infinite"):
        read_volume(save(tmp_path / "many.nii.gz", array))


def test_refuses_a_constant_image(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="constant: every voxel is 7"):
        read_volume(save(tmp_path / "scan.nii.gz", np.full(SHAPE, 7, np.int16)))


def test_warns_of_thick_slices(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "scan.nii.gz", affine=np.diag([1.0, 1, 6, 1])))
    assert volume.warnings == ("Slices are 6.0 mm thick; fine structures are lost.",)


def test_slope_and_intercept_are_applied_once(tmp_path: Path) -> None:
    volume = read_volume(patched(tmp_path / "scan.nii", (SLOPE, "2f", (0.5, -10.0))))
    np.testing.assert_allclose(volume.array, voxels() * 0.5 - 10)


def test_4d_with_one_volume_is_fine(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "scan.nii.gz", voxels()[..., None]))
    assert volume.array.shape == SHAPE and volume.native.shape == SHAPE
    assert volume.warnings == ()


TYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", TYPES)
def test_every_real_datatype_in_both_byte_orders(code: str, order: str, tmp_path: Path) -> None:
    array = np.minimum(voxels(), 100).astype(order + code)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(array.dtype)
    nib.save(nib.Nifti1Image(array, AFFINE, header), tmp_path / "scan.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii").array, array)


FORMATS: dict[str, Callable[..., Any]] = {
    "nifti2.nii": nib.Nifti2Image,
    "nifti2.nii.gz": nib.Nifti2Image,
    "pair.hdr": nib.Nifti1Pair,
    "pair2.hdr": nib.Nifti2Pair,
    "free.mgz": nib.MGHImage,
    "free.mgh": nib.MGHImage,
}


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats_agree_with_nibabel(name: str, tmp_path: Path) -> None:
    affine = np.array([[0, 0, 2.0, -8], [-2, 0, 0, 11], [0, 3, 0, 5], [0, 0, 0, 1]])
    array = voxels(np.float32) - 20
    FORMATS[name](array, affine).to_filename(tmp_path / name)
    volume = read_volume(tmp_path / name)
    expected = nib.as_closest_canonical(nib.load(tmp_path / name))
    np.testing.assert_allclose(volume.array, expected.get_fdata(), atol=1e-4)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)
    assert volume.warnings == ()


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage])
def test_analyze_is_read_with_its_warning(kind: Any, tmp_path: Path) -> None:
    kind(voxels(), None).to_filename(tmp_path / "scan.img")
    for mat in tmp_path.glob("*.mat"):
        mat.unlink()
    volume = read_volume(tmp_path / "scan.img")
    expected = nib.as_closest_canonical(nib.load(tmp_path / "scan.img"))
    np.testing.assert_allclose(volume.array, expected.get_fdata())
    np.testing.assert_allclose(volume.affine, expected.affine)
    assert len(volume.warnings) == 1 and "orientation unknown" in volume.warnings[0]


def test_a_pair_without_its_other_half_is_refused(tmp_path: Path) -> None:
    nib.Nifti1Pair(voxels(), AFFINE).to_filename(tmp_path / "scan.hdr")
    (tmp_path / "scan.img").unlink()
    with pytest.raises(BadInput, match=r"scan\.img: is not there"):
        read_volume(tmp_path / "scan.hdr")


ORIENTATIONS = ["RAS", "LAS", "LPI", "PSR", "LIA", "SPL"]


def reoriented(path: Path, array: np.ndarray, affine: np.ndarray, axcodes: str) -> Path:
    """Save the RAS+ image ``array`` with its axes stored as ``axcodes`` says."""
    image = nib.Nifti1Image(array, affine)
    ornt = nib.orientations.axcodes2ornt(axcodes)
    nib.save(
        image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), ornt)), path
    )
    return path


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_every_orientation_gives_the_same_volume(axcodes: str, tmp_path: Path) -> None:
    plain = read_volume(save(tmp_path / "ras.nii.gz"))
    turned = read_volume(reoriented(tmp_path / "turned.nii.gz", voxels(), AFFINE, axcodes))
    assert turned.native.axcodes == axcodes
    np.testing.assert_array_equal(turned.array, plain.array)
    np.testing.assert_allclose(turned.affine, plain.affine, atol=1e-5)
    assert turned.voxel_hash == plain.voxel_hash


def test_the_voxel_hash_tells_images_apart(tmp_path: Path) -> None:
    one = read_volume(save(tmp_path / "one.nii.gz"))
    array = voxels()
    array[3, 3, 3] += 1
    other = read_volume(save(tmp_path / "other.nii.gz", array))
    assert one.voxel_hash != other.voxel_hash
    assert one.voxel_hash == read_volume(save(tmp_path / "same.nii", voxels(np.float64))).voxel_hash


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_a_map_goes_back_to_the_voxel_order_of_the_file(axcodes: str, tmp_path: Path) -> None:
    path = reoriented(tmp_path / "scan.nii.gz", voxels(), AFFINE, axcodes)
    source = nib.load(path)
    source.set_qform(source.affine, 1)
    source.set_sform(source.affine, 4)
    nib.save(source, path)
    volume = read_volume(path)
    native = native_array(volume, volume.array)
    np.testing.assert_array_equal(native, source.get_fdata())
    write_native(tmp_path / "map.nii.gz", native, volume.native)
    written = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(written.get_fdata(), source.get_fdata())
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (1, 4)
    assert written.header.get_xyzt_units()[0] == "mm"


def test_a_map_of_an_unoriented_scan_lies_over_it_in_other_programs(tmp_path: Path) -> None:
    path = patched(tmp_path / "scan.nii", (QFORM, "2h", (0, 0)))
    volume = read_volume(path)
    write_native(tmp_path / "map.nii.gz", native_array(volume, volume.array), volume.native)
    written = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(written.affine, nib.load(path).affine)
    assert int(written.header["sform_code"]) == 0


def test_a_map_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "scan.nii.gz"))
    with pytest.raises(ValueError, match="on a grid of"):
        write_native(tmp_path / "map.nii.gz", np.zeros((2, 2, 2)), volume.native)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.mgz"])
def test_no_damage_raises_anything_but_bad_input(name: str, tmp_path: Path) -> None:
    """Bytes flipped at random and files cut at random lengths: read, or refused in one line."""
    path = tmp_path / name
    nib.save(nib.load(save(tmp_path / "sound.nii")), path)
    sound = bytearray(
        gzip.decompress(path.read_bytes()) if name.endswith("z") else path.read_bytes()
    )
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        content = bytearray(sound)
        for place in rng.integers(0, 352, rng.integers(1, 6)):
            content[place] = rng.integers(0, 256)
        if rng.random() < 0.2:
            del content[rng.integers(0, len(content)) :]
        path.write_bytes(gzip.compress(content, 1) if name.endswith("z") else content)
        try:
            volume = read_volume(path)
        except BadInput as error:
            refused += 1
            assert str(path) in str(error)
        else:
            assert np.isfinite(volume.array).all() and np.isfinite(volume.affine).all()
    assert refused > 40


@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
@pytest.mark.parametrize(
    ("name", "axcodes"),
    [
        ("heads/aomic-0001_T1w.nii.gz", "LIA"),
        ("heads/ixi-012_T1w.nii.gz", "PSR"),
        ("oasis1-slab/sub-OAS10001/ses-1/anat/sub-OAS10001_ses-1_T1w.nii.gz", "RAS"),
    ],
)
def test_real_scans_agree_with_nibabel(name: str, axcodes: str) -> None:
    volume = read_volume(MRI / name)
    expected = nib.as_closest_canonical(nib.load(MRI / name))
    assert volume.native.axcodes == axcodes and volume.warnings == ()
    assert np.abs(volume.array - np.asarray(expected.dataobj, np.float32)).max() < 1e-3
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-6)
