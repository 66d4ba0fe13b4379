"""A scan as a MONAI MetaTensor, and back."""

import math
from pathlib import Path

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from uncus.data.imageio.volume import Native, Volume
from uncus.data.space import Placed

Affine = NDArray[np.float64]


def to_tensor(volume: Volume) -> MetaTensor:
    """A scan as float32 [1, X, Y, Z] with its affine (RAS+, mm); the voxels are not copied.

    Its ``meta`` can be collated into batches: ``filename_or_obj``; ``original_affine`` and
    ``spatial_shape``, the grid of the file, on which MONAI's SaveImage saves; ``qform``, ``sform``
    (NaN where absent) and their codes; ``warnings``, one sentence a line; ``demographics``, "age"
    in years and "sex" from a DICOM header.
    """
    native = volume.native
    (qform, qform_code), (sform, sform_code) = native.qform, native.sform
    absent = np.full((4, 4), np.nan)
    return MetaTensor(
        torch.from_numpy(volume.array)[None],
        affine=torch.from_numpy(np.asarray(volume.affine, np.float64)),
        meta={
            "filename_or_obj": str(native.path),
            "original_affine": native.affine,
            "spatial_shape": np.array(native.shape),
            "original_channel_dim": 0,
            "space": "RAS",
            "qform": absent if qform is None else qform,
            "qform_code": qform_code,
            "sform": absent if sform is None else sform,
            "sform_code": sform_code,
            "warnings": "\n".join(volume.warnings),
            "demographics": {"age": "", "sex": "", **volume.demographics},
        },
    )


def to_volume(image: MetaTensor) -> Volume:
    """The inverse of :func:`to_tensor`, with the image's present affine and warnings."""
    meta = image.meta
    x, y, z = (int(size) for size in meta["spatial_shape"])
    native_affine = np.asarray(meta["original_affine"], np.float64)

    def transform(name: str) -> tuple[Affine | None, int]:
        affine = np.asarray(meta[name], np.float64)
        return None if math.isnan(affine[0, 0]) else affine, int(meta[f"{name}_code"])

    return Volume(
        array=voxels(image),
        affine=affine_of(image),
        native=Native(
            path=Path(meta["filename_or_obj"]),
            shape=(x, y, z),
            affine=native_affine,
            axcodes="".join(aff2axcodes(native_affine)),
            qform=transform("qform"),
            sform=transform("sform"),
        ),
        warnings=warnings_of(image),
        demographics={name: text for name, text in meta["demographics"].items() if text},
    )


def voxels(image: MetaTensor) -> NDArray[np.float32]:
    """The only channel [X, Y, Z] of an image [1, X, Y, Z]; no copy is made on the CPU.

    Raises ValueError for an image of another shape.
    """
    if image.ndim != 4 or len(image) != 1:
        raise ValueError(f"an image of shape {tuple(image.shape)}: it must be [1, X, Y, Z]")
    array: NDArray[np.float32] = image.as_tensor()[0].cpu().numpy()
    return array


def affine_of(image: MetaTensor) -> Affine:
    """Voxel index -> mm, RAS+: float64 [4, 4]."""
    affine: Affine = image.affine.cpu().numpy().astype(np.float64)
    return affine


def with_voxels(
    image: MetaTensor, array: NDArray[np.float32], affine: Affine, **meta: object
) -> MetaTensor:
    """A new image of ``array`` [X, Y, Z], with the metadata and the history of ``image``."""
    values = {name: value for name, value in image.meta.items() if name != "affine"}
    return MetaTensor(
        torch.from_numpy(np.ascontiguousarray(array))[None],
        affine=torch.from_numpy(np.asarray(affine, np.float64)),
        meta={**values, **meta},
        applied_operations=list(image.applied_operations),
    )


def warnings_of(image: MetaTensor) -> tuple[str, ...]:
    """The warnings about an image, one sentence each."""
    return tuple(filter(None, image.meta.get("warnings", "").split("\n")))


def added_warnings(image: MetaTensor, warnings: tuple[str, ...]) -> str:
    """The value of ``warnings`` in the metadata with more of them."""
    return "\n".join((*warnings_of(image), *warnings))


def to_placed(scan: Volume, image: MetaTensor) -> Placed:
    """The scan as placed on the grid by the steps that made ``image`` of it."""
    meta = image.meta
    measures = {name: round(v, 4) for name, v in meta.get("registration", {}).items()}
    return Placed(
        array=voxels(image),
        mask=meta["mask"][0].numpy(),
        volume=scan,
        in_field_of_view=meta["in_field_of_view"][0].numpy(),
        contact=tuple(np.asarray(meta["contact"]).tolist()),
        warnings=warnings_of(image),
        to_grid=np.asarray(meta.get("to_mni", np.eye(4)), np.float64),
        quality={name: value for name, value in measures.items() if not math.isnan(value)},
    )
