"""Place one scan of a cohort on its grid; runs in a worker."""

from pathlib import Path

from uncus.data import bids_derivatives, prepared_cohort
from uncus.data.bids_derivatives import Entry, source_sha256
from uncus.data.cohorts.scans import Scan
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import load_files
from uncus.data.space import Grid
from uncus.pipeline.preparation.refusals import pictured


def place_scan(
    root: Path, scan: Scan, source: str, grid: Grid, space: str, known_hash: str = ""
) -> tuple[Entry, bool]:
    """Place a scan and save it, unless the cohort has its result from the same inputs.

    The scan's files are read once, for their hash and their voxels, and not at all if the result of
    ``known_hash`` (of the source, from an earlier pass) exists. ``root`` is the cohort's folder,
    ``source`` the scan's path to record. Returns the entry, and whether it is new; raises BadInput
    if the scan is rejected or changes while it is read.
    """
    files = () if known_hash else load_files(scan.path)
    source_hash = known_hash or source_sha256(files, scan.series)
    key = bids_derivatives.result_key(source_hash, grid, space)
    entry = bids_derivatives.load_entry(root, scan, space, key)
    if entry is not None:
        return entry, False
    files = files or load_files(scan.path)
    # MONAI takes seconds to import: only where a scan is placed.
    from uncus.data.transforms.path import scan_pipeline
    from uncus.data.transforms.reading import Source
    from uncus.data.transforms.scan_tensor import to_volume

    pipeline = scan_pipeline(space, grid)
    image = pipeline.read(Source((scan.path,), scan.series, files))
    with pictured(root, scan.name, to_volume(image)):
        placed = pipeline.place(image)
    # Bytes in memory cannot have changed since they were hashed.
    in_memory = not known_hash and all(file.content is not None for file in files)
    if not in_memory and source_sha256(files, scan.series) != source_hash:
        raise BadInput(scan.path, "changed while it was being prepared", "run the command again")
    # From here to the end of the run, the folder is not a finished cohort.
    (root / prepared_cohort.MANIFEST).unlink(missing_ok=True)
    return bids_derivatives.save(root, scan, placed, grid, space, source, source_hash), True
