"""MONAI transforms from a user's file, applied to training volumes before or after ours."""

import importlib.util
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.transform import Randomizable
from torch import Tensor

from uncus.data import files
from uncus.data.errors import BadInput
from uncus.data.transforms.augmentation import Batch

BEFORE = "before="


@dataclass(frozen=True)
class Reference:
    """Where a transform is defined: ``[before=]FILE.py:NAME``."""

    text: str

    @property
    def first(self) -> bool:
        """Whether it is applied before the augmentation."""
        return self.text.startswith(BEFORE)

    @property
    def file(self) -> Path:
        """The Python file."""
        return Path(self.text.removeprefix(BEFORE).rpartition(":")[0])

    @property
    def name(self) -> str:
        """The transform, or list of transforms, in it."""
        return self.text.rpartition(":")[2]

    def load(self) -> Any:
        """Run the file and return the transform.

        Raises
        ------
        BadInput: there is no such file or name, or the file cannot be run.
        """
        if not self.name.isidentifier() or self.file.suffix != ".py":
            raise BadInput(
                f"--transforms {self.text}",
                "does not name a transform in a Python file",
                "give FILE.py:NAME, or before=FILE.py:NAME",
            )
        if not self.file.is_file():
            raise BadInput(self.file, "no such file", "check the path in --transforms")
        source = importlib.util.spec_from_file_location(self.file.stem, self.file)
        assert source is not None and source.loader is not None
        module = importlib.util.module_from_spec(source)
        try:
            source.loader.exec_module(module)
        except Exception as error:  # whatever the user's code raises
            cause = f"cannot be run ({type(error).__name__}: {error})"
            raise BadInput(self.file, cause, "correct it") from error
        found = getattr(module, self.name, None)
        transform = Compose(list(found)) if isinstance(found, list | tuple) else found
        if not callable(transform):
            cause = f"defines no transform {self.name}"
            raise BadInput(
                self.file, cause, f"set {self.name} to a transform, or to a list of them"
            )
        return transform


class CustomTransform:
    """A user's transform of the dictionary ``{"volume": [1, X, Y, Z]}``, scan by scan.

    MONAI's random state, and the global ones of torch, numpy and Python, are set for each scan from
    (seed, epoch, scan), so that an interrupted training continues with the same volumes, unless the
    transform keeps a state of its own.

    Parameters
    ----------
    reference: where it is defined.
    affine: of the volumes, voxel index -> mm, RAS+.
    seed: of the training.
    """

    def __init__(self, reference: Reference, affine: np.ndarray, seed: int) -> None:
        self.reference, self.affine, self.seed = reference, torch.tensor(affine), seed
        self.transform: Callable[[Any], Any] = reference.load()
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other parameters than in other epochs."""
        self.epoch = epoch

    def __call__(self, data: Batch) -> Batch:
        """The batch with changed volumes [N, 1, X, Y, Z].

        Raises
        ------
        ValueError: the transform fails, or changes the shape.
        """
        scans = data["scan"].tolist()
        changed = [self.of_scan(v, scan) for v, scan in zip(data["volume"], scans, strict=True)]
        return {**data, "volume": torch.stack(changed)}

    def of_scan(self, volume: Tensor, scan: int) -> Tensor:
        """One changed volume [1, X, Y, Z]."""
        seed = int(np.random.SeedSequence((self.seed, self.epoch, scan)).generate_state(1)[0])
        with seeded(seed):
            if isinstance(self.transform, Randomizable):
                self.transform.set_random_state(seed)
            try:
                item = {"volume": MetaTensor(volume.clone(), self.affine)}
                result = torch.as_tensor(self.transform(item)["volume"])
            except Exception as error:  # whatever the user's code raises
                cause = error.__cause__ or error  # MONAI's Compose names the transform alone
                raise ValueError(
                    f"--transforms {self.reference.text}: {type(cause).__name__}: {cause}"
                ) from error
        if result.shape != volume.shape:
            raise ValueError(
                f"--transforms {self.reference.text}: it makes a volume of {tuple(volume.shape)} "
                f"one of {tuple(result.shape)}; it must keep the shape"
            )
        plain = result.as_tensor() if isinstance(result, MetaTensor) else result
        return plain.to(volume)

    def keeps_state(self, volume: Tensor) -> bool:
        """Whether the same scan is changed differently when it is changed again."""
        first, again = (self.of_scan(volume, scan=0) for _ in range(2))
        return not torch.equal(first, again)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global random states of Python, numpy and torch (CPU) within the context."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def custom_transforms(
    references: Sequence[str], affine: np.ndarray, seed: int
) -> tuple[list[CustomTransform], list[CustomTransform]]:
    """The transforms to apply before the augmentation, and those after it."""
    loaded = [CustomTransform(Reference(text), affine, seed) for text in references]
    before = [one for one in loaded if one.reference.first]
    return before, [one for one in loaded if not one.reference.first]


def recorded(references: Sequence[str]) -> list[dict[str, str]]:
    """What identifies the transforms: their names and the SHA-256 of their files."""
    return [{"transform": r, "sha256": files.sha256(Reference(r).file)} for r in references]
