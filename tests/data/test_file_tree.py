"""Files below a folder: what is left out is said."""

from pathlib import Path

import pytest

from tests.data.cohorts.files import touch
from uncus.data.file_tree import ignored_warnings, is_output, list_files


def test_files_are_listed_in_natural_order_through_links(tmp_path: Path) -> None:
    touch(tmp_path, "in/a10.nii", "in/a2.nii", "in/b/c.nii", "out/d.nii")
    (tmp_path / "in" / "x").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "y.nii").symlink_to(tmp_path / "out" / "d.nii")
    (tmp_path / "out" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "self").symlink_to("self")
    ignored: dict[str, list[str]] = {}
    found = [p.relative_to(tmp_path / "in") for p in list_files(tmp_path / "in", ignored)]
    assert [path.as_posix() for path in found] == [
        "a2.nii",
        "a10.nii",
        "b/c.nii",
        "x/d.nii",
        "y.nii",
    ]
    (missing, loop) = ignored_warnings(ignored)
    assert missing.startswith("links to files that are missing") and missing.endswith(": self")
    assert loop == "links to a folder above them, ignored: back"


@pytest.mark.parametrize(
    "name", [".git/a.nii", "__MACOSX/a.nii", "@eaDir/a.nii", ".DS_Store", ".bidsignore"]
)
def test_files_of_the_system_are_skipped(name: str, tmp_path: Path) -> None:
    touch(tmp_path, name)
    ignored: dict[str, list[str]] = {}
    assert list_files(tmp_path, ignored) == [] and not ignored


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        (["volumes.npy", "manifest.json"], True),
        ([".lock", "sub-1"], True),  # a cohort that was interrupted
        ([".lock", "sub-1", "participants.tsv"], False),  # a phantom cohort
        (["prediction.json", "saliency.nii.gz"], True),
        (["saliency-occlusion.png", "saliency-occlusion.nii.gz"], True),
        (["sub-1", "participants.tsv", "dataset_description.json"], False),
    ],
)
def test_results_are_recognized(names: list[str], ours: bool, tmp_path: Path) -> None:
    assert is_output(names) is ours
    touch(tmp_path, "scan.nii", *(f"out/{name}" for name in names))
    ignored: dict[str, list[str]] = {}
    found = {path.name for path in list_files(tmp_path, ignored)}
    assert (found == {"scan.nii"}) is ours
    assert ignored_warnings(ignored) == (["results of uncus, ignored: out"] if ours else [])


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    ignored: dict[str, list[str]] = {}
    assert list_files(tmp_path / "gone", ignored) == []
    assert ignored_warnings(ignored) == ["cannot be read, ignored: gone"]
