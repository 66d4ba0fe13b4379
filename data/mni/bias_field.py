"""The bias field: how unevenly the coils light the head."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uncus.data.geometry.image import Image, coarser

BIAS_MM = 5.0  # the field is smooth: a grid this coarse holds it
CONTROL_MM = 60.0  # mm between the control points of the finest spline, about
ITERATIONS = (15, 12, 8)


def bias_field(image: Image, mask: NDArray[np.bool_]) -> Image:
    """The smooth field that ``image`` was multiplied with, 1 on average inside ``mask``.

    N4 (Tustison et al., IEEE Trans. Medical Imaging 29, 2010) on a shrunken grid. Returns the
    field on that grid; the image divided by it is even.
    """
    import SimpleITK

    itk: Any = SimpleITK  # it carries no types

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
    picture = itk.GetImageFromArray((positive[box] / scale).transpose(2, 1, 0).copy())
    shown = itk.GetImageFromArray(inside[box].astype(np.uint8).transpose(2, 1, 0).copy())
    for each in (picture, shown):
        each.SetSpacing(small.spacing.tolist())
    n4 = itk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfWorkUnits(2)  # fixed, so that the answer does not hang on the machine
    n4.SetMaximumNumberOfIterations(list(ITERATIONS))
    extent = small.spacing * [part.stop - part.start for part in box]
    finest = 2 ** (len(ITERATIONS) - 1)
    meshes = np.maximum(np.round(extent / CONTROL_MM / finest), 1).astype(int)
    n4.SetNumberOfControlPoints([int(mesh) + 3 for mesh in meshes])
    n4.Execute(picture, shown)
    field = itk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(picture)).transpose(2, 1, 0)
    # Beyond the mask's box the field goes on as it ends there.
    around = [
        (part.start, size - part.stop) for part, size in zip(box, small.array.shape, strict=True)
    ]
    field = np.pad(field, around, mode="edge").astype(np.float32)
    field -= field[inside].mean()
    return Image(np.exp(field), small.affine)


def divided(image: Image, field: Image) -> Image:
    """``image`` without the field."""
    to_field = np.linalg.inv(field.affine) @ image.affine
    there: NDArray[np.float32] = ndimage.affine_transform(
        field.array,
        to_field[:3, :3],
        to_field[:3, 3],
        image.array.shape,
        np.float32,
        order=1,
        mode="nearest",
    )
    return Image(image.array / there, image.affine)
