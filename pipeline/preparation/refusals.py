"""Pictures of a cohort's scans that were read and then rejected, so that the reason is seen."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uncus import NOTICE
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import Volume

FOLDER = "refused"


def picture_path(root: Path, name: str) -> Path:
    """The picture of the scan called ``name`` in the cohort at ``root``."""
    return root / FOLDER / f"{name}.png"


@contextmanager
def pictured(root: Path, name: str, volume: Volume) -> Iterator[None]:
    """Write the scan's picture with the reason where it is rejected inside, and raise it again.

    If the scan was segmented by then, its outlines are drawn too.
    """
    try:
        yield
    except BadInput as error:
        from uncus.data.segmentation.segmenter import known_segmentation
        from uncus.pipeline.rendering.head_picture import head_picture
        from uncus.pipeline.rendering.slices import save_png

        title = f"{name}: {error.cause}"
        picture = head_picture(volume, known_segmentation(volume), title, NOTICE)
        save_png(picture, picture_path(root, name))
        raise


def forget(root: Path) -> None:
    """Remove the pictures of an earlier run."""
    shutil.rmtree(root / FOLDER, ignore_errors=True)
