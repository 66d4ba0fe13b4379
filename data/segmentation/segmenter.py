"""Segment a head: find the brain and its orientation, then label its voxels at 2 mm and, where
hippocampus and amygdala lie, at 1 mm.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from uncus.data.geometry.foreground import constant_background, largest_part, otsu
from uncus.data.geometry.grid import Grid
from uncus.data.geometry.image import Affine, Image, coarser, upright
from uncus.data.geometry.resample import labels_onto_voxels
from uncus.data.imageio.volume import Volume
from uncus.data.segmentation import boxes
from uncus.data.segmentation.boxes import AMYGDALA, HIPPOCAMPUS, Box, box_affine, label_box
from uncus.data.segmentation.correction import load as load_corrections
from uncus.data.segmentation.intensity import normalized
from uncus.data.segmentation.labels import BRAIN, INTRACRANIAL, LABELS, MIRRORED
from uncus.data.segmentation.segmentation import REGIONS, Segmentation, region_volumes
from uncus.data.segmentation.trained import card, load_network, method, template_centers

SPACING = 2.0  # mm, of the network
SHAPE = (80, 96, 80)  # of its input, voxels; more for a larger brain
MULTIPLE = 16  # of the sizes of its input
MARGIN_MM = 8.0  # around the brain
POINTS = 200_000  # interpolated at once
# Distance in mm by which the centers of a brain's labels differ from the template's after an affine
# transform, root mean square; labels of which at least so many voxels are found count.
MAX_DISTANCE = 4.0
BRAIN_ML = (300.0, 2500.0)  # of what is looked at from all sides
MIN_VOXELS, MIN_LABELS = 20, 12
Network = Callable[[Tensor], Tensor]
_NAMES = {parts: name for name, (parts, *others) in REGIONS.items() if not others}


class Match(NamedTuple):
    """The affine transform that maps the template's labels onto a scan's.

    Parameters
    ----------
    transform: float64 [4, 4], template mm -> scan mm.
    distance: root mean square of what is left between the labels' centers, mm.
    labels: how many labels were found.
    """

    transform: Affine
    distance: float
    labels: int

    @property
    def is_brain(self) -> bool:
        """Whether the labels lie as in a brain."""
        return self.labels >= MIN_LABELS and self.distance <= MAX_DISTANCE


@dataclass(frozen=True, eq=False)
class SegmentedBrain:
    """The labels of a head, see :data:`uncus.data.segmentation.labels.LABELS`.

    Parameters
    ----------
    probabilities: float32 [K, X, Y, Z] of the labels, on a grid of 2 mm around the brain along the
        template's axes.
    affine: float64 [4, 4], index of that grid -> mm of the scan, RAS+.
    image: float32 [X, Y, Z], the scan on that grid, white matter about 1.
    inside: bool [X, Y, Z], which of its voxels lie in the scan's field of view.
    match: how the labels' centers fit the template's.
    boxes: hippocampus and amygdala of the left and the right side, at 1 mm; none if there is no
        brain.
    """

    probabilities: NDArray[np.float32]
    affine: Affine
    image: NDArray[np.float32]
    inside: NDArray[np.bool_]
    match: Match
    boxes: tuple[Box, ...] = ()

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """The likeliest label [X, Y, Z]."""
        likeliest: NDArray[np.uint8] = self.probabilities.argmax(0).astype(np.uint8)
        return likeliest

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The brain with the fluid around and inside it: bool [X, Y, Z]."""
        brain: NDArray[np.bool_] = self.probabilities[list(BRAIN)].sum(0) > 0.5
        if not brain.any():
            return brain
        near = ndimage.binary_dilation(largest_part(brain), iterations=4)
        inside = near & (self.probabilities[list(INTRACRANIAL)].sum(0) > 0.5)
        filled: NDArray[np.bool_] = ndimage.binary_fill_holes(largest_part(inside))
        return filled

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel size in mm [3]."""
        return np.full(3, SPACING)

    def centers(self) -> dict[int, NDArray[np.float64]]:
        """The centers of the brain's labels, mm [3] each; of those with 20 voxels or more."""
        return label_centers(self.labels, self.affine, template_centers())


def segment(image: Image, network: Network | None = None) -> SegmentedBrain:
    """Segment a head or a skull-stripped brain in any orientation.

    Parameters
    ----------
    image: the scan with its background at 0; mm, RAS+.
    network: scores of the labels [N, K, X, Y, Z] for images [N, 1, X, Y, Z]; the trained one by
        default, and with it that of the boxes.
    """
    box_network = None if network else load_network("box")
    network = network or load_network("head")
    fine = coarser(image, SPACING)
    match = locate(network, upright(fine, SPACING))
    grid = brain_grid(match)
    to_index = np.linalg.inv(fine.affine) @ grid.affine
    sampled = ndimage.affine_transform(
        fine.array,
        to_index[:3, :3],
        to_index[:3, 3],
        grid.shape,
        np.float32,
        order=1,
        cval=np.nan,
    )
    inside = np.isfinite(sampled)
    array = normalized(torch.from_numpy(np.nan_to_num(sampled)))
    scores = probabilities(network, array)
    scores = (scores + probabilities(network, array.flip(0)).flip(1)[list(MIRRORED)]) / 2
    result = scores.numpy()
    result[:, ~inside], result[0, ~inside] = 0, 1
    match = match_centers(result, grid.affine)
    brain = SegmentedBrain(result, grid.affine, array.numpy(), inside, match)
    if not (box_network and match.is_brain):
        return brain
    image = coarser(image, boxes.SPACING)
    found = (label_box(box_network, image, one, side) for side, one in enumerate(_boxes(brain)))
    return replace(brain, boxes=tuple(found))


def _boxes(brain: SegmentedBrain) -> Iterator[Affine]:
    """The left and the right box, each around what the labels call hippocampus and amygdala."""
    for side in range(2):
        structures = (HIPPOCAMPUS + side, AMYGDALA + side)
        together = np.isin(brain.labels, structures)
        if together.sum() >= MIN_VOXELS:
            center = brain.affine[:3, :3] @ ndimage.center_of_mass(together) + brain.affine[:3, 3]
        else:
            expected = np.mean([template_centers()[label] for label in structures], axis=0)
            center = brain.match.transform[:3, :3] @ expected + brain.match.transform[:3, 3]
        yield box_affine(center, brain.affine[:3, :3] / SPACING, side)


def segment_volume(volume: Volume) -> SegmentedBrain:
    """Segment a scan as it was read; the last one is kept, since several steps need it.

    A step in another thread waits for the one that segments.
    """
    key = (volume.voxel_hash, volume.affine.tobytes())
    with _SEGMENTING:
        if key not in _LAST:
            found = segment(background_at_zero(volume))
            _LAST.clear()
            _LAST[key] = found
        return _LAST[key]


def known_segmentation(volume: Volume) -> Segmentation | None:
    """The labels on the scan's own voxels, brain or not, if it was the last to be segmented."""
    brain = _LAST.get((volume.voxel_hash, volume.affine.tobytes()))
    return on_scan(brain, volume) if brain else None


_SEGMENTING = Lock()
_LAST: dict[tuple[str, bytes], SegmentedBrain] = {}


def forget() -> None:
    """Keep nothing of the last scan."""
    _LAST.clear()


def background_at_zero(volume: Volume) -> Image:
    """The scan with 0 as its background and least value."""
    background, array = constant_background(volume.array), volume.array
    if background is None:
        array = array - min(float(array.min()), 0.0)
    else:
        inside = array != background
        darkest = float(np.percentile(array[inside], 0.5)) if inside.any() else 0.0
        array = np.where(inside, np.maximum(array - min(darkest, 0.0), 0), 0)
    return Image(array.astype(np.float32, copy=False), volume.affine)


def on_scan(brain: SegmentedBrain, volume: Volume) -> Segmentation:
    """The likeliest labels on the scan's own voxels, from interpolated probabilities."""
    to_index = np.linalg.inv(brain.affine) @ volume.affine
    # Beyond the brain the nearest label is good enough.
    rough, near = labels_onto_voxels(brain.labels, to_index, volume.array.shape, INTRACRANIAL[0])
    # grid_sample's coordinates range from -1 (first voxel) to 1 (last), in the order z, y, x.
    scale = 2 / (np.array(brain.labels.shape) - 1)
    matrix = (scale[:, None] * to_index[:3, :3])[::-1]
    offset = (scale * to_index[:3, 3] - 1)[::-1]
    voxels = np.argwhere(near)
    scores, labels = torch.from_numpy(brain.probabilities)[None], []
    for part in np.array_split(voxels, max(1, len(voxels) // POINTS)):
        at = torch.from_numpy((part @ matrix.T + offset).astype(np.float32))[None, None, None]
        values = torch.nn.functional.grid_sample(
            scores, at, padding_mode="border", align_corners=True
        )
        of = values[0, :, 0, 0]
        for box in brain.boxes:
            of[list(box.structures)] = 0
        labels.append(of.argmax(0).to(torch.uint8).numpy())
    rough[near] = np.concatenate(labels)
    sums = brain.probabilities.reshape(len(LABELS), -1).sum(1, dtype=np.float64)
    volumes = region_volumes(sums * SPACING**3 / 1000)
    for box in brain.boxes:
        box.draw(rough, volume.affine)
        volumes |= {_NAMES[label]: ml for label, ml in box.volumes().items()}
    return Segmentation(rough, volume.affine, volumes, method(), load_corrections(method()))


def segment_scan(volume: Volume) -> Segmentation | None:
    """The segmentation on the scan's own voxels; None where no brain was found."""
    brain = segment_volume(volume)
    return on_scan(brain, volume) if brain.match.is_brain else None


def locate(network: Network, head: Image) -> Match:
    """Find the brain in a head; if it is not as the header says, in the 23 other orientations."""
    array = np.nan_to_num(head.array)
    box = ndimage.find_objects((array > otsu(array) / 2).astype(np.uint8))
    window = box[0] if box and box[0] else tuple(slice(0, n) for n in array.shape)
    array = array[window]
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in window]
    best = Match(np.eye(4), float("inf"), 0)
    for order, signs in orientations():
        turned = array.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
        to_array = np.zeros((4, 4))
        to_array[3, 3] = 1
        for axis, (source, sign) in enumerate(zip(order, signs, strict=True)):
            to_array[source, axis] = sign
            to_array[source, 3] = 0 if sign > 0 else array.shape[source] - 1
        # In the turned array's own frame, where the network expects the head to be upright.
        frame = np.diag([SPACING, SPACING, SPACING, 1.0])
        scores = probabilities(network, padded(normalized(torch.tensor(turned.copy()))))
        match = match_centers(scores.numpy(), frame)
        if not BRAIN_ML[0] < float(scores[list(BRAIN)].sum()) * SPACING**3 / 1000 < BRAIN_ML[1]:
            break  # noise, or another thing: it will not be a head from another side
        to_scan = affine @ to_array @ np.linalg.inv(frame)
        match = match._replace(transform=to_scan @ match.transform)
        if match.is_brain:
            return match
        best = min(best, match, key=lambda one: (-one.labels // 4, one.distance))
    return best


def orientations() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The 24 rotations by multiples of 90 degrees: order and direction of the axes."""
    turns = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                turns.append((order, signs))
    # The header's own first, then half and quarter turns about one axis.
    return sorted(turns, key=lambda turn: 3 - sum(a == b for a, b in enumerate(turn[0])))


def padded(array: Tensor) -> Tensor:
    """``array`` [X, Y, Z] with zeros at its end, to sizes that the network takes."""
    margins = [(0, -n % MULTIPLE) for n in reversed(array.shape)]
    return torch.nn.functional.pad(array, [size for margin in margins for size in margin])


@torch.inference_mode()
def probabilities(network: Network, image: Tensor) -> Tensor:
    """Probabilities [K, X, Y, Z] of the labels of ``image`` [X, Y, Z]."""
    return network(image[None, None])[0].float().softmax(0)


def match_centers(scores: NDArray[np.float32], affine: Affine) -> Match:
    """Fit the template's label centers to those of a segmentation, by an affine transform.

    Parameters
    ----------
    scores: probabilities [K, X, Y, Z].
    affine: their index -> mm.
    """
    return match_labels(scores.argmax(0), affine)


def match_labels(labels: NDArray[Any], affine: Affine) -> Match:
    """Fit the template's label centers to those of labels [X, Y, Z], by an affine transform."""
    found = label_centers(labels, affine, template_centers())
    if len(found) < 4:
        return Match(np.eye(4), float("inf"), len(found))
    centers = np.array(list(found.values()))
    expected = np.array([template_centers()[label] for label in found])
    rows = np.hstack([expected, np.ones((len(found), 1))])
    fitted, *_ = np.linalg.lstsq(rows, centers, rcond=None)
    transform = np.eye(4)
    transform[:3] = fitted.T
    distance = float(np.sqrt(((rows @ fitted - centers) ** 2).sum(1).mean()))
    if np.linalg.det(transform[:3, :3]) <= 0:
        distance = float("inf")
    return Match(transform, distance, len(found))


def label_centers(
    labels: NDArray[Any], affine: Affine, of: Iterable[int]
) -> dict[int, NDArray[np.float64]]:
    """The centers of labels in [X, Y, Z], mm [3] each; of those with 20 voxels or more."""
    counts = np.bincount(labels.ravel(), minlength=len(LABELS))
    found = [label for label in of if counts[label] >= MIN_VOXELS]
    index = np.array(ndimage.center_of_mass(np.ones_like(labels), labels, found)).reshape(-1, 3)
    return dict(zip(found, index @ affine[:3, :3].T + affine[:3, 3], strict=True))


def brain_grid(match: Match) -> Grid:
    """A grid around the brain, along the template's axes as they lie in the scan."""
    u, _, v = np.linalg.svd(match.transform[:3, :3])
    rotation = u @ v
    low, high = np.array(card()["template_box"])
    corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
    at = corners @ match.transform[:3, :3].T + match.transform[:3, 3]
    along = at @ rotation  # mm along the axes of the brain
    size = np.ptp(along, axis=0) + 2 * MARGIN_MM
    counts = np.maximum(np.ceil(size / SPACING / MULTIPLE).astype(int) * MULTIPLE, SHAPE)
    counts = np.minimum(counts, 160)
    middle = rotation @ (along.min(axis=0) + along.max(axis=0)) / 2
    affine = np.eye(4)
    affine[:3, :3] = rotation * SPACING
    affine[:3, 3] = middle - affine[:3, :3] @ (counts - 1) / 2
    x, y, z = counts.tolist()
    return Grid((x, y, z), affine)
