"""Compressed and truncated content: no more is inflated than the header declares."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nifti_files import DIM, patched, save, voxels
from uncus.data.errors import BadInput
from uncus.data.imageio import gzip_stream
from uncus.data.imageio.volume import Limits, read_volume


def damage(kind: str, path: Path) -> str:
    """Write a damaged file of this kind; returns the expected cause."""
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
            return "truncated header"
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
        case "corrupt block":
            path.write_bytes(content[:400] + b"\xff" * 60 + content[460:])
            return "damaged gzip"
        case "text":
            path.write_bytes(gzip.compress(b"participant_id\tage\n" * 60))
            return "text"
    raise AssertionError(kind)


DAMAGED = [
    "empty",
    "header cut",
    "voxels cut",
    "gzip cut",
    "plain data",
    "wrong CRC",
    "corrupt block",
    "text",
]


@pytest.mark.parametrize("kind", DAMAGED)
def test_rejects_a_damaged_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    cause = damage(kind, path)
    with pytest.raises(BadInput, match=cause):
        read_volume(path)


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
        """Sizes of the inflated chunks."""
        sizes: list[int] = []
        chunks = gzip_stream._chunks

        def counting(file: gzip_stream.RawFile, step: int) -> Any:
            for chunk in chunks(file, step):
                sizes.append(len(chunk))
                yield chunk

        monkeypatch.setattr(gzip_stream, "_chunks", counting)
        return sizes

    def test_content_much_larger_than_declared(self, tmp_path: Path, counted: list[int]) -> None:
        plain = save(tmp_path / "scan.nii").read_bytes()
        path = tmp_path / "bomb.nii.gz"
        path.write_bytes(gzip.compress(plain + b"\0" * (64 << 20)))
        with pytest.raises(BadInput, match="bomb"):
            read_volume(path)
        assert sum(counted) < 4 << 20

    def test_header_over_the_voxel_limit(self, tmp_path: Path, counted: list[int]) -> None:
        plain = patched(tmp_path / "scan.nii", (DIM, "4h", (3, 2048, 2048, 512))).read_bytes()
        path = tmp_path / "false.nii.gz"
        path.write_bytes(gzip.compress(plain + b"\0" * (16 << 20)))
        with pytest.raises(BadInput, match="over the limit"):
            read_volume(path)
        assert sum(counted) < 2 << 10

    def test_header_larger_than_gzip_can_inflate_to(
        self, tmp_path: Path, counted: list[int]
    ) -> None:
        plain = patched(tmp_path / "scan.nii", (DIM, "4h", (3, 400, 400, 400))).read_bytes()
        path = tmp_path / "false.nii.gz"
        path.write_bytes(gzip.compress(plain))
        with pytest.raises(BadInput, match="more than the file can contain"):
            read_volume(path)
        assert sum(counted) < 2 << 10

    def test_the_voxel_limit_is_an_option(self, tmp_path: Path) -> None:
        path = save(tmp_path / "scan.nii.gz")
        with pytest.raises(BadInput, match="over the limit of 100"):
            read_volume(path, Limits(voxels=100))
