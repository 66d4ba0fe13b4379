"""Whether a BIDS dataset is synthetic: `uncus phantom` says so in its description."""

from pathlib import Path

from uncus.data.errors import BadInput
from uncus.data.files import read_json

RECIPE = "PhantomRecipe"
"""Of dataset_description.json: the options of `uncus phantom`."""


def is_synthetic(root: Path) -> bool:
    """Whether the dataset in the folder ``root`` was made by `uncus phantom`."""
    path = root / "dataset_description.json"
    try:
        description = read_json(path) if path.is_file() else None
    except BadInput:
        return False
    return isinstance(description, dict) and RECIPE in description
