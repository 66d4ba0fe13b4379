"""The bias field: the smooth intensity inhomogeneity of MR coils."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.geometry.image import Image, coarser

BIAS_MM = 5.0  # voxel size of the grid of the field, which is smooth
CONTROL_MM = 60.0  # mm between the control points of the finest spline, about
ITERATIONS = (15, 12, 8)


def bias_field(image: Image, mask: NDArray[np.bool_]) -> Image:
    """Estimate the smooth multiplicative field of ``image``, 1 on average inside ``mask``.

    N4 (Tustison et al., IEEE Trans. Medical Imaging 29, 2010) on a coarse grid, on which the field
    is returned.
    """
    import SimpleITK

    itk: Any = SimpleITK  # untyped

    small = coarser(image, BIAS_MM)
    inside = coarser(Image(mask.astype(np.float32), image.affine), BIAS_MM).array > 0.5
    # N4 takes logarithms.
    positive = np.maximum(small.array, 0)
    inside &= positive > 0.01 * float(np.percentile(positive[inside], 95)) if inside.any() else True
    if np.count_nonzero(inside) < 100:
        return Image(np.ones_like(small.array), small.affine)
    box = tuple(
        slice(max(part.start - 1, 0), min(part.stop + 1, size))
        for part, size in zip(
            ndimage.find_objects(inside.astype(np.uint8))[0], small.array.shape, strict=True
        )
    )
    scale = float(positive[inside].mean())
    itk_image = itk.GetImageFromArray((positive[box] / scale).transpose(2, 1, 0).copy())
    itk_mask = itk.GetImageFromArray(inside[box].astype(np.uint8).transpose(2, 1, 0).copy())
    for each in (itk_image, itk_mask):
        each.SetSpacing(small.spacing.tolist())
    n4 = itk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfWorkUnits(2)  # fixed, so that the result does not depend on the machine
    n4.SetMaximumNumberOfIterations(list(ITERATIONS))
    extent = small.spacing * [part.stop - part.start for part in box]
    finest = 2 ** (len(ITERATIONS) - 1)
    meshes = np.maximum(np.round(extent / CONTROL_MM / finest), 1).astype(int)
    n4.SetNumberOfControlPoints([int(mesh) + 3 for mesh in meshes])
    n4.Execute(itk_image, itk_mask)
    field = itk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(itk_image)).transpose(2, 1, 0)
    # Outside the mask's box the field continues with its values at the faces.
    margins = [
        (part.start, size - part.stop) for part, size in zip(box, small.array.shape, strict=True)
    ]
    field = np.pad(field, margins, mode="edge").astype(np.float32)
    field -= field[inside].mean()
    return Image(np.exp(field), small.affine)


def divide(image: Image, field: Image) -> Image:
    """Divide ``image`` by ``field``, interpolated at its voxels."""
    to_field = np.linalg.inv(field.affine) @ image.affine
    resampled: NDArray[np.float32] = ndimage.affine_transform(
        field.array,
        to_field[:3, :3],
        to_field[:3, 3],
        image.array.shape,
        np.float32,
        order=1,
        mode="nearest",
    )
    return Image(image.array / resampled, image.affine)
