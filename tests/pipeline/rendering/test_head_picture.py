"""The picture of a scan: outlines at their places, or the whole scan where nothing was found."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from uncus.data.imageio.volume import Native, Volume
from uncus.data.segmentation.labels import LABELS
from uncus.data.segmentation.segmentation import Segmentation
from uncus.pipeline.rendering.head_picture import SHOWN, head_picture

SHAPE = (60, 70, 56)
AFFINE = np.diag([3.0, 3, 3, 1])
AFFINE[:3, 3] = -90, -126, -72


def head() -> tuple[Volume, Segmentation]:
    """A head with a brain, blocks for its structures, and very bright fat around it."""
    x, y, z = np.indices(SHAPE)
    radius = np.sqrt((x - 29.5) ** 2 + (y - 35) ** 2 + (z - 28) ** 2)
    labels = np.where(radius < 20, np.where(x < 30, 5, 6), (radius < 26).astype(int)).astype(
        np.uint8
    )
    for side, low in ((0, 20), (1, 34)):
        labels[low : low + 6, 26:38, 22:26] = 12 + side
        labels[low : low + 6, 38:42, 22:26] = 14 + side
        labels[low : low + 6, 30:40, 30:34] = 10 + side
    image = np.where(labels >= 2, 100.0, 0.0) + np.where(labels == 1, 900.0, 0.0)
    native = Native(Path("scan.nii.gz"), SHAPE, AFFINE, "RAS", (None, 0), (AFFINE, 1))
    volume = Volume(image.astype(np.float32), AFFINE, native)
    return volume, Segmentation.from_labels(labels, AFFINE, "test")


def pixels(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def count(image: np.ndarray, color: str) -> int:
    return int((np.abs(image - to_rgb(color)).max(-1) < 0.12).sum())


def test_every_structure_has_its_outline_and_a_name_in_the_key() -> None:
    volume, segmentation = head()
    figure = head_picture(volume, segmentation, "a title")
    image = pixels(figure)
    for own in SHOWN.values():
        assert count(image, LABELS[own[0]].color) > 100
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["brain", "lateral ventricles", "hippocampi", "amygdalae"]
    assert len(figure.axes) == 6
    # Contours lie at the edges of the voxels: the sagittal plane is through the left hippocampus.
    contours = [one for one in figure.axes[0].collections if one.get_paths()[0].vertices.size]
    extents = [np.ptp(one.get_paths()[0].vertices, axis=0) for one in contours]
    assert any(np.allclose(extent, (12, 4)) for extent in extents)


def test_bright_fat_does_not_darken_the_brain() -> None:
    volume, segmentation = head()
    image = pixels(head_picture(volume, segmentation))
    assert (image.min(-1) > 0.9).sum() > 20_000


def test_a_scan_in_which_nothing_was_found_is_shown_whole_with_the_reason() -> None:
    volume, segmentation = head()
    nothing = Segmentation.from_labels(np.zeros(SHAPE, np.uint8), AFFINE, "test")
    reason = "scan.nii.gz: this does not look like a T1-weighted head; " * 4
    for found in (None, nothing):
        figure = head_picture(volume, found, reason, "a note")
        assert len(figure.axes) == 3
        lines = figure.get_suptitle().split("\n")
        assert len(lines) > 1 and max(map(len, lines)) <= 110
        assert count(pixels(figure), LABELS[12].color) == 0
    half = np.where(np.isin(segmentation.labels, (12, 10)), 2, segmentation.labels)
    assert len(head_picture(volume, Segmentation.from_labels(half, AFFINE, "test")).axes) == 3


def test_specks_that_are_no_brain_do_not_hide_the_scan() -> None:
    volume, segmentation = head()
    labels = np.where(np.indices(SHAPE).sum(0) < 12, 5, 1).astype(np.uint8)
    specks = Segmentation.from_labels(labels, AFFINE, "test")
    figure = head_picture(volume, specks)
    assert len(figure.axes) == 3 and not figure.legends
    assert np.array_equal(pixels(figure), pixels(head_picture(volume)))
    assert len(head_picture(volume, segmentation).axes) == 6
