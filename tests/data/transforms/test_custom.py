"""MONAI transforms from a user's file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from uncus.data.errors import BadInput
from uncus.data.transforms.custom import CustomTransform, Reference, custom_transforms, recorded

FILE = """
import numpy as np, torch, random
from monai.transforms import RandGibbsNoised, RandGaussianNoised, Lambdad

gibbs = RandGibbsNoised("volume", prob=1.0, alpha=(0.5, 1.0))
several = [gibbs, RandGaussianNoised("volume", prob=1.0)]
scalar = 3

def unseeded(data):
    draws = random.random() + np.random.rand() + float(torch.rand(1))
    return {"volume": data["volume"] * draws}

count = 0
def counting(data):
    global count
    count += 1
    return {"volume": data["volume"] + count}

def cropping(data):
    return {"volume": data["volume"][:, 1:]}

def failing(data):
    return data["image"]

composed = __import__("monai.transforms", fromlist=["Compose"]).Compose([failing])
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


def batch(*scans: int) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    volume = torch.randn(1, 1, 8, 9, 10, generator=noise).expand(len(scans), -1, -1, -1, -1)
    return {"volume": volume, "scan": torch.tensor(scans), "label": torch.zeros(len(scans))}


@pytest.mark.parametrize("name", ["gibbs", "several", "unseeded"])
def test_draws_depend_on_seed_epoch_and_scan_alone(file: Path, name: str) -> None:
    one = CustomTransform(Reference(f"{file}:{name}"), np.eye(4), seed=3)
    first = one(batch(1, 2))["volume"]
    assert type(first) is torch.Tensor and not torch.equal(first[0], first[1])
    state = torch.get_rng_state()
    again = CustomTransform(Reference(f"{file}:{name}"), np.eye(4), seed=3)(batch(2))["volume"]
    assert torch.equal(again[0], first[1]) and torch.equal(torch.get_rng_state(), state)
    one.set_epoch(1)
    assert not torch.equal(one(batch(1, 2))["volume"], first)
    assert not one.keeps_state(batch(1)["volume"][0])


def test_a_state_of_its_own_is_noticed(file: Path) -> None:
    one = CustomTransform(Reference(f"{file}:counting"), np.eye(4), seed=3)
    assert one.keeps_state(batch(1)["volume"][0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cropping", "must keep the shape"),
        ("failing", "KeyError: 'image'"),
        ("composed", "KeyError: 'image'"),
    ],
)
def test_errors_name_the_transform(file: Path, name: str, message: str) -> None:
    one = CustomTransform(Reference(f"{file}:{name}"), np.eye(4), seed=0)
    with pytest.raises(ValueError, match=f"--transforms .*mine.py:{name}: .*{message}"):
        one(batch(0))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("{}:absent", "defines no transform absent"),
        ("{}:scalar", "defines no transform scalar"),
        ("{}", "does not name a transform"),
        ("mine.txt:a", "does not name a transform"),
        ("absent.py:a", "no such file"),
    ],
)
def test_invalid_references_are_rejected(file: Path, reference: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Reference(reference.format(file)).load()
    (file.parent / "broken.py").write_text("import absent_package")
    with pytest.raises(BadInput, match="cannot be run"):
        Reference(f"{file.parent / 'broken.py'}:a").load()


def test_before_and_after_the_augmentation(file: Path) -> None:
    references = (f"before={file}:gibbs", f"{file}:several")
    before, after = custom_transforms(references, np.eye(4), 0)
    assert [one.reference.name for one in before] == ["gibbs"]
    assert [one.reference.name for one in after] == ["several"]
    assert len({one["sha256"] for one in recorded(references)}) == 1
