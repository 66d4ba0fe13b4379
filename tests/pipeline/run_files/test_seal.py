"""Seals: what differs from them is found, and they name nothing but files beside them."""

import os
import subprocess
from pathlib import Path

import pytest

from uncus.data.errors import BadInput
from uncus.pipeline.run_files import seal


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A folder with a sealed file; its seal."""
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "SUMS"
    (path.parent / "a.tsv").write_text("a")
    seal.write(path, ["a.tsv"])
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        seal.verify(path, "copy it again")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_the_format_of_sha256sum(sealed: Path) -> None:
    subprocess.run(["sha256sum", "--check", sealed.name], cwd=sealed.parent, check=True)
    assert list(seal.verify(sealed, "")) == ["a.tsv"]


def test_a_changed_or_lost_file_is_named(sealed: Path) -> None:
    path = sealed.parent / "a.tsv"
    path.write_text("b")
    assert refusal(sealed) == f"{path}: its SHA-256 differs from the one in SUMS; copy it again"
    path.unlink()
    assert "a.tsv: is missing" in refusal(sealed)
    path.mkdir()
    assert "a.tsv: is not a file" in refusal(sealed)


@pytest.mark.parametrize("name", ["../a.tsv", "/etc/hostname", "b/../a.tsv", "..", ".a", "a b", ""])
def test_a_path_is_refused(sealed: Path, name: str) -> None:
    sealed.write_text(sealed.read_text().replace("a.tsv", name))
    assert "is not a SHA-256 and the name of a file" in refusal(sealed)


def test_links_and_pipes_are_refused(sealed: Path) -> None:
    path = sealed.parent / "a.tsv"
    path.rename(sealed.parent.parent / "a.tsv")
    path.symlink_to("../a.tsv")
    assert f"{path}: is a link" in refusal(sealed)
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    assert "a.tsv: is not a file" in refusal(sealed)
    sealed.unlink()
    os.mkfifo(sealed)
    assert "SUMS: is not a file" in refusal(sealed)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (1 << 21), b"\x00", b"0" * 64 + b"  \x1b"])
def test_what_is_no_seal_is_refused(sealed: Path, content: bytes) -> None:
    sealed.write_bytes(content)
    assert str(sealed) in refusal(sealed)
