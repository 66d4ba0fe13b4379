"""Quality control of a scan, before and after it is brought onto the grid."""

from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import Transform

from uncus.data import image_quality
from uncus.data.errors import BadInput
from uncus.data.quality_control import Reference, check_quality
from uncus.data.transforms.dictionary import DictionaryTransform
from uncus.data.transforms.scan_tensor import (
    added_warnings,
    affine_of,
    to_placed,
    to_volume,
    voxels,
    with_voxels,
)

REMEDY = "give a T1-weighted scan of a head"


class CheckImage(Transform):
    """Reject a CT; warn about noise and ghosting, see :mod:`uncus.data.image_quality`.

    Raises
    ------
    BadInput: the scan looks like a CT.
    """

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """``image`` [1, X, Y, Z] as read, with its warnings."""
        volume = to_volume(image)
        if image_quality.looks_like_ct(volume):
            raise BadInput(volume.native.path, "looks like a CT (background near -1000)", REMEDY)
        warnings = image_quality.measure(volume).warnings
        return with_voxels(
            image, voxels(image), affine_of(image), warnings=added_warnings(image, warnings)
        )


class CheckQuality(Transform):
    """Reject or warn about a scan unlike the training scans, see :mod:`uncus.data.quality_control`.

    Parameters
    ----------
    reference: statistics of the training scans.

    Raises
    ------
    BadInput: the networks must not be applied to the scan.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """``image`` [1, X, Y, Z] on the grid, normalized, with its warnings."""
        warnings = check_quality(to_placed(to_volume(image), image), self.reference)
        return with_voxels(
            image, voxels(image), affine_of(image), warnings=added_warnings(image, warnings)
        )


class CheckImaged(DictionaryTransform):
    """The dictionary form of :class:`CheckImage`."""

    form = CheckImage


class CheckQualityd(DictionaryTransform):
    """The dictionary form of :class:`CheckQuality`."""

    form = CheckQuality
