"""Properties that every transform of a scan has: in MONAI's pipelines, and inverted."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data.dataloader import DataLoader
from monai.data.dataset import CacheDataset
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import decollate_batch
from monai.transforms.compose import Compose
from monai.transforms.inverse import InvertibleTransform
from scipy.spatial.transform import Rotation

from tests.data.ellipsoid_brain import mm, scan, upright
from tests.data.transforms.test_path import GRID
from uncus.data import transforms
from uncus.data.imageio.writer import native_array
from uncus.data.mni import prealigned, registration
from uncus.data.quality_control import Reference
from uncus.data.transforms import (
    CheckImage,
    CheckQuality,
    MaskBrain,
    NormalizeBrain,
    PlaceInMNI,
    ReadScan,
    ToGrid,
    scan_pipeline,
)
from uncus.data.transforms.path import ScanPipeline, place, rebuild
from uncus.data.transforms.scan_tensor import affine_of, voxels, with_voxels

ORIENTATIONS = ["RAS", "LAS", "LPI", "PSR"]
MOVED = np.eye(4)
MOVED[:3, :3] = Rotation.from_euler("xyz", (0.2, -0.1, 0.3)).as_matrix() @ np.diag([1.1, 0.9, 1.05])
MOVED[:3, 3] = 4, -3, 2


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registration of any scan by MOVED; that of a real brain is tested elsewhere."""

    def register(volume: Any) -> registration.Registration:
        field = registration.Image(np.ones((1, 1, 1), np.float32), volume.affine)
        mask = volume.array > 0
        return registration.Registration(MOVED, mask, field, 0.95, 0.9, 1.0, True, 0.5)

    monkeypatch.setattr(prealigned, "verify", lambda volume: None)
    monkeypatch.setattr(registration, "register", register)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    scan(tmp_path / "scan.nii.gz", *upright(), "LIA")
    return tmp_path / "scan.nii.gz"


def steps(path: Path) -> list[Any]:
    """All steps, with a reference of the scan itself."""
    reference = Reference.fit(place(ReadScan().read(path), GRID).array[None])
    return [
        ReadScan(),
        CheckImage(),
        MaskBrain(),
        PlaceInMNI(),
        ToGrid(GRID),
        NormalizeBrain(),
        CheckQuality(reference),
    ]


@pytest.mark.usefixtures("registered")
def test_each_transform_changes_nothing_it_is_given(path: Path) -> None:
    image: Any = path
    for step in steps(path):
        before = image.clone() if isinstance(image, MetaTensor) else None
        meta = {**image.meta} if before is not None else {}
        result = step(image)
        assert isinstance(result, MetaTensor) and result.dtype == torch.float32
        assert result.meta["filename_or_obj"] == str(path)
        if before is not None:
            assert torch.equal(image, before) and image.meta.keys() == meta.keys()
            assert torch.equal(image.affine, before.affine)
        image = result


@pytest.mark.usefixtures("registered")
def test_each_inverse_undoes_the_transform(path: Path) -> None:
    image: Any = path
    for step in steps(path):
        result = step(image)
        if isinstance(step, InvertibleTransform) and isinstance(image, MetaTensor):
            assert [o["class"] for o in result.applied_operations][-1] == type(step).__name__
            back = step.inverse(result)
            assert back.shape == image.shape
            torch.testing.assert_close(back.affine, image.affine)
            assert len(back.applied_operations) == len(image.applied_operations)
        image = result


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_a_block_of_voxels_returns_through_the_pipeline(axcodes: str, tmp_path: Path) -> None:
    volume = scan(tmp_path / "scan.nii.gz", *upright(), axcodes)
    file_shape = volume.native.shape
    block = np.zeros(file_shape, np.float32)
    middle = [size // 2 for size in file_shape]
    block[tuple(slice(m - 1, m + 2) for m in middle)] = 1
    nib.save(nib.Nifti1Image(block, volume.native.affine), tmp_path / "label.nii.gz")
    keys = ["image", "label"]
    pipeline = Compose(
        [
            transforms.ReadScand(keys),
            transforms.PlaceInMNId("image", labels="label"),
            transforms.ToGridd(keys, GRID),
        ]
    )
    data = pipeline({"image": tmp_path / "scan.nii.gz", "label": tmp_path / "label.nii.gz"})
    assert data["image"].shape == data["label"].shape == (1, *GRID.shape)
    # On the grid the block lies where the registration moves it.
    label = voxels(data["label"])
    center = (mm(GRID.affine, GRID.shape) * label[..., None]).sum((0, 1, 2)) / label.sum()
    moved = MOVED @ volume.native.affine @ [*middle, 1]
    assert np.linalg.norm(center - moved[:3]) < 1.0
    back = pipeline.inverse(data)["label"]
    assert back.shape == (1, *file_shape)
    torch.testing.assert_close(back.affine.numpy(), volume.native.affine, atol=1e-4, rtol=0)
    returned = voxels(back)
    index = (np.argwhere(returned > 0) * returned[returned > 0][:, None]).sum(0) / returned.sum()
    assert np.abs(index - middle).max() < 0.5


@pytest.mark.usefixtures("registered")
def test_a_map_returns_to_the_file_by_the_inverse(path: Path) -> None:
    pipeline = scan_pipeline("mni", GRID)
    image = pipeline(path)
    saliency = np.random.default_rng(0).random(GRID.shape, np.float32)
    back = pipeline.inverse(with_voxels(image, saliency, affine_of(image)))
    volume = ReadScan().read(path)
    assert voxels(back).shape == volume.native.shape
    np.testing.assert_allclose(affine_of(back), volume.native.affine, atol=1e-5)
    to_scan = pipeline.place(pipeline.read(path)).to_scan
    assert to_scan is not None
    np.testing.assert_array_equal(voxels(back), native_array(volume, to_scan(saliency)))
    with pytest.raises(ValueError, match="on a grid of"):
        pipeline.inverse(with_voxels(image, saliency[1:], affine_of(image)))


@pytest.mark.usefixtures("registered")
def test_batches_of_scans_in_monais_loader(tmp_path: Path) -> None:
    items = []
    for number, axcodes in enumerate(ORIENTATIONS):
        scan(tmp_path / f"{number}.nii.gz", *upright(), axcodes)
        items.append({"image": tmp_path / f"{number}.nii.gz", "label": number % 2})
    pipeline = Compose(
        [
            transforms.ReadScand("image"),
            transforms.CheckImaged("image"),
            transforms.PlaceInMNId("image"),
            transforms.ToGridd("image", GRID.as_dict()),
            transforms.NormalizeBraind("image"),
        ]
    )
    dataset = CacheDataset(items, pipeline, progress=False, num_workers=0)
    for batch in DataLoader(dataset, batch_size=2):
        assert batch["image"].shape == (2, 1, *GRID.shape)
        for item in decollate_batch(batch):
            back = pipeline.inverse(item)["image"]
            file = ReadScan().read(back.meta["filename_or_obj"])
            assert voxels(back).shape == file.native.shape
    first, second = (voxels(dataset[index]["image"]) for index in (0, 3))
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_a_pipeline_is_rebuilt_from_its_description(path: Path) -> None:
    reference = Reference.fit(place(ReadScan().read(path), GRID).array[None])
    default = scan_pipeline("keep", GRID, reference)
    described = default.describe()
    assert [entry["step"] for entry in described] == [type(s).__name__ for s in default.transforms]
    described[4]["percentiles"] = [5, 95]
    rebuilt = rebuild(described, default)
    assert isinstance(rebuilt, ScanPipeline) and rebuilt.describe() == described
    assert voxels(rebuilt(path)).max() < voxels(default(path)).max()
    for wrong in (
        described[1:],
        described[::-1],
        [*described[:4], {"step": "NormalizeBrain", "x": 1}],
    ):
        with pytest.raises((ValueError, TypeError)):
            rebuild(wrong, default)
