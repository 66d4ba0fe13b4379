"""Training scans per second: our memory map and batched augmentation against MONAI's datasets."""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from uncus.data.augment import Augment
from uncus.data.geometry.grid import Grid
from uncus.data.prepared_cohort import VOLUMES, write_volumes
from uncus.data.scan_dataset import ScanDataset
from uncus.data.transforms.augmentation import Augmentation
from uncus.pipeline.benchmark.fingerprint import fingerprint
from uncus.pipeline.timing import measure as time_all
from uncus.pipeline.training.data_loading import EpochSampler, loader

SHAPE, SCANS = (96, 112, 96), 8
QUICK_SHAPE, QUICK_SCANS = (16, 16, 16), 4
BATCH = 2
SPACING = 2.0  # mm
AUGMENT = Augment()


def cases(device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """A single case."""
    return [{"quick": quick}]


def depends(case: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """What the result depends on: the code that reads and augments."""
    return {"code": fingerprint("data/transforms", "pipeline/training")}


def gather(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """The part ``data`` of the report."""
    return dict(rows[0][1])


def measure(case: dict[str, Any], device: torch.device, rounds: int) -> dict[str, Any]:
    """Time an epoch over each source."""
    quick = case["quick"]
    shape, scans = (QUICK_SHAPE, QUICK_SCANS) if quick else (SHAPE, SCANS)
    with tempfile.TemporaryDirectory(prefix="uncus-bench-") as folder:
        root = Path(folder)
        arrays = [synthetic_volume(shape, seed) for seed in range(scans)]
        works = {
            "uncus": ours(root, arrays, device),
            "monai PersistentDataset": monai(root, arrays, device, persistent=True),
            "monai CacheDataset": monai(root, arrays, device, persistent=False),
        }
        times = time_all(works, device, rounds, scans)
        alone = time_all({"augment": augmentation(arrays, device)}, device, rounds, BATCH)
        shutil.rmtree(root / "cache")
    rows = [
        {"source": name, "ms": time.as_dict(), "scans_a_second": 1e3 / time.median}
        for name, time in times.items()
    ]
    return {
        "shape": list(shape),
        "batch": BATCH,
        "workers": 0,
        "augment_ms": alone["augment"].as_dict(),
        "rows": rows,
    }


def synthetic_volume(shape: Sequence[int], seed: int) -> np.ndarray[Any, Any]:
    """A volume float16 [X, Y, Z]: noise in a ball, background 0."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    noise = np.random.default_rng(seed).standard_normal(shape)
    return np.where(sum(a * a for a in axes) < 0.8, noise, 0.0).astype(np.float16)


def ours(
    root: Path, arrays: Sequence[np.ndarray[Any, Any]], device: torch.device
) -> Callable[[], None]:
    """An epoch as in training: read from the memory map, augmented in batches on the device."""
    write_volumes(root, Grid(arrays[0].shape, np.eye(4)), arrays)
    volumes = np.load(root / VOLUMES, mmap_mode="r")
    dataset = ScanDataset(volumes, range(len(arrays)), np.zeros(len(arrays), np.int64))
    batches = loader(dataset, BATCH, sampler=EpochSampler(len(dataset), seed=0))
    change = Augmentation.of(AUGMENT, (SPACING,) * 3, seed=0)

    def epoch() -> None:
        for batch in batches:
            change({**batch, "volume": batch["volume"].to(device)})

    return epoch


def augmentation(
    arrays: Sequence[np.ndarray[Any, Any]], device: torch.device
) -> Callable[[], None]:
    """Our augmentation of one batch that is already on the device."""
    volumes = torch.from_numpy(np.stack(arrays[:BATCH]).astype(np.float32))[:, None].to(device)
    change = Augmentation.of(AUGMENT, (SPACING,) * 3, seed=0)
    batch = {"volume": volumes, "scan": torch.arange(BATCH)}

    def once() -> None:
        change(batch)

    return once


def monai(
    root: Path,
    arrays: Sequence[np.ndarray[Any, Any]],
    device: torch.device,
    *,
    persistent: bool,
) -> Callable[[], None]:
    """An epoch of MONAI's dataset with the same augmentation, its cache filled beforehand."""
    from monai.data.dataset import CacheDataset, PersistentDataset

    logging.getLogger("monai").setLevel(logging.ERROR)  # missing DICOM decoders
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
    source = root / "source"
    source.mkdir(exist_ok=True)
    items = []
    for number, array in enumerate(arrays):
        path = source / f"{number}.npy"
        if not path.exists():
            np.save(path, array.astype(np.float32))
        items.append({"volume": str(path)})
    dataset: Any
    if persistent:
        dataset = PersistentDataset(items, transforms(), cache_dir=root / "cache")
    else:
        dataset = CacheDataset(items, transforms(), num_workers=0, progress=False)
    batches: Any = DataLoader(
        dataset, batch_size=BATCH, shuffle=True, pin_memory=torch.cuda.is_available()
    )

    def epoch() -> None:
        for batch in batches:
            moved: Tensor = batch["volume"].to(device)
            assert moved.ndim == 5

    return epoch


def transforms() -> Any:
    """MONAI's transforms equivalent to the default `Augment`, scan by scan."""
    from monai.transforms.compose import Compose
    from monai.transforms.intensity import dictionary as intensity
    from monai.transforms.io.dictionary import LoadImaged
    from monai.transforms.spatial import dictionary as spatial
    from monai.transforms.utility import dictionary as utility

    axes = (0, 1, 2)

    def spread(values: Sequence[float]) -> tuple[float, ...]:
        return tuple(values[0] if len(values) == 1 else values[a] for a in axes)

    keys = ["volume"]
    shift = tuple(mm / SPACING for mm in spread(AUGMENT.translate))
    return Compose(
        [
            LoadImaged(keys, reader="NumpyReader", image_only=True),
            utility.EnsureChannelFirstd(keys, channel_dim="no_channel"),
            utility.EnsureTyped(keys, track_meta=False),
            spatial.RandFlipd(keys, prob=AUGMENT.flip, spatial_axis=0),
            spatial.RandAffined(
                keys,
                prob=1.0,
                rotate_range=tuple(np.deg2rad(spread(AUGMENT.rotate)).tolist()),
                scale_range=spread(AUGMENT.scale),
                translate_range=shift,
                mode="bilinear",
                padding_mode="zeros",
            ),
            intensity.RandBiasFieldd(
                keys, prob=1.0, degree=2, coeff_range=(-AUGMENT.bias, AUGMENT.bias)
            ),
            intensity.RandScaleIntensityd(keys, factors=AUGMENT.intensity, prob=1.0),
            intensity.RandShiftIntensityd(keys, offsets=AUGMENT.intensity, prob=1.0),
            intensity.RandGaussianNoised(keys, prob=1.0, std=AUGMENT.noise),
        ]
    )


def table(part: dict[str, Any]) -> list[list[str]]:
    """Header and rows; ratios against MONAI's PersistentDataset."""
    peer = next(r for r in part["rows"] if r["source"].endswith("PersistentDataset"))
    out = [["source", "volume", "batch", "ms per scan", "scans per second", "x PersistentDataset"]]
    for row in part["rows"]:
        time = row["ms"]
        out.append(
            [
                row["source"],
                "x".join(map(str, part["shape"])),
                str(part["batch"]),
                f"{time['median']:.1f} [{time['low']:.1f}-{time['high']:.1f}]",
                f"{row['scans_a_second']:.1f}",
                f"{peer['ms']['median'] / time['median']:.2f}",
            ]
        )
    return out


def remarks(part: dict[str, Any]) -> list[str]:
    """Notes on the table."""
    time = part["augment_ms"]
    return [
        "An epoch in the training process: flip, affine, bias field, contrast, brightness and",
        "noise, drawn anew for each scan. uncus augments a batch at once on the training device",
        "and keeps the background at 0; MONAI's transforms run scan by scan on the CPU, from its",
        f"filled cache. The augmentation alone takes {time['median']:.1f} ms per scan.",
    ]
