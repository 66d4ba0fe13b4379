"""Find the brain of a scan and where it is in the space of the networks; nothing is resampled."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import Transform
from monai.utils.misc import ensure_tuple
from numpy.typing import NDArray

from uncus.data.geometry.foreground import brain_mask
from uncus.data.mni import prealigned, registration
from uncus.data.transforms.dictionary import (
    DictionaryTransform,
    Invertible,
    InvertibleDictionaryTransform,
)
from uncus.data.transforms.scan_tensor import (
    Affine,
    added_warnings,
    affine_of,
    to_volume,
    voxels,
    with_voxels,
)


class MaskBrain(Transform):
    """Find the brain, or the head of a scan that is not skull-stripped, where its affine puts it.

    Adds to ``meta``: ``mask``, bool [1, X, Y, Z]; ``contact``, see :func:`contact`.

    Raises
    ------
    BadInput: there is no brain.
    """

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """``image`` [1, X, Y, Z] with its mask."""
        mask = brain_mask(to_volume(image))
        return with_voxels(
            image,
            voxels(image),
            affine_of(image),
            mask=torch.from_numpy(mask)[None],
            contact=np.array(contact(mask)),
        )


class MaskBraind(DictionaryTransform):
    """The dictionary form of :class:`MaskBrain`."""

    form = MaskBrain


class PlaceInMNI(Invertible):
    """Register a whole head or a skull-stripped brain to the ICBM152 template, by one affine.

    The affine of the result maps to MNI152 mm and its bias field is corrected in the box of its
    brain; its voxels are not resampled. A skull-stripped brain whose header declares it aligned is
    checked and left unmoved, see :mod:`uncus.data.mni.prealigned`; all others are registered, see
    :mod:`uncus.data.mni.registration`. The inverse restores the affine, not the bias field.

    Adds to ``meta``: ``mask``, bool [1, X, Y, Z], the brain; ``contact``, see :func:`contact`;
    ``to_mni``, float64 [4, 4], scan mm -> MNI152 mm; ``registration``, its measures, NaN where not
    measured.

    Raises
    ------
    BadInput: the registration fails or the brain is cut off.
    """

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """``image`` [1, X, Y, Z] in MNI152 space."""
        volume = to_volume(image)
        result = prealigned.verify(volume) or registration.register(volume)
        measures = {
            "overlap": result.overlap,
            "similarity": result.similarity,
            "seen": result.coverage,
            "distance": result.distance,
            "contrast": result.contrast,
        }
        corrected = registration.corrected(volume, result)
        placed = with_voxels(
            image,
            corrected.array,
            corrected.affine,
            mask=torch.from_numpy(result.mask)[None],
            contact=np.array(contact(result.mask)),
            to_mni=result.to_mni,
            registration={n: np.nan if v is None else float(v) for n, v in measures.items()},
            warnings=added_warnings(image, result.warnings),
        )
        return self.record(placed, to_mni=result.to_mni)

    def follow(self, image: MetaTensor, to_mni: Affine) -> MetaTensor:
        """Another image on the same voxels, such as a label map, with the same transform."""
        moved = with_voxels(image, voxels(image), to_mni @ affine_of(image))
        return self.record(moved, to_mni=to_mni)

    def inverse(self, image: MetaTensor) -> MetaTensor:
        """``image`` with an affine to the scan's mm."""
        result = with_voxels(image, voxels(image), affine_of(image))
        to_mni = self.undo(result)["to_mni"]
        result.affine = torch.from_numpy(np.linalg.inv(to_mni) @ affine_of(image))
        return result


class PlaceInMNId(InvertibleDictionaryTransform):
    """The dictionary form of :class:`PlaceInMNI`.

    Parameters
    ----------
    keys: of the scans.
    labels: of label maps or masks on the voxels of the scan at the first of ``keys``: they get the
        same transform.
    allow_missing_keys: whether keys that are not in the data are skipped.
    """

    form = PlaceInMNI
    transform: PlaceInMNI

    def __init__(
        self, keys: KeysCollection, labels: KeysCollection = (), allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys=allow_missing_keys)
        self.labels = ensure_tuple(labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with scans and labels in MNI152 space."""
        result = super().__call__(data)
        for key in self.labels:
            result[key] = self.transform.follow(result[key], result[self.keys[0]].meta["to_mni"])
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with the affines of scans and labels restored."""
        result = super().inverse(data)
        return result | {key: self.transform.inverse(result[key]) for key in self.labels}


def contact(mask: NDArray[np.bool_]) -> tuple[float, ...]:
    """Measure how much each face of the array cuts the mask [X, Y, Z]; see ``Placed.contact``."""
    shares: list[float] = []
    for axis in range(3):
        areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        largest = max(int(areas.max()), 1)
        shares += [float(areas[0] / largest), float(areas[-1] / largest)]
    return tuple(shares)
