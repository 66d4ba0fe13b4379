"""Small cohorts that tests prepare, and what is in their folders."""

from pathlib import Path

from uncus.pipeline.cli import main


def prepare(source: Path, cohort: Path, *options: str) -> int:
    return main(["prepare", str(source), str(cohort), "--spacing", "4", "--workers", "1", *options])


def image(source: Path, subject: int) -> Path:
    return source / f"sub-{subject:02d}/anat/sub-{subject:02d}_T1w.nii.gz"


def contents(root: Path) -> dict[str, bytes]:
    """The bytes of every file but the hidden ones."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.relative_to(root).as_posix().startswith(".")
    }


def times(root: Path) -> dict[str, int]:
    """When each derivative was written, by its subject."""
    return {path.name[:6]: path.stat().st_mtime_ns for path in root.rglob("*_T1w.nii.gz")}
