"""The trained networks: of the whole head and of a box around hippocampus and amygdala."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from uncus.data.segmentation import boxes
from uncus.data.segmentation.labels import LABELS
from uncus.data.segmentation.network import SegmentationNet

WEIGHTS = Path(__file__).with_name("weights.safetensors")
CARD = Path(__file__).with_name("network.json")
PARTS = ("head", "box")
"""What the names of a network's weights begin with."""


def untrained(part: str) -> SegmentationNet:
    """One of the networks, with random weights."""
    if part == "box":
        return SegmentationNet(boxes.COUNT, boxes.WIDTHS, halved=False)
    return SegmentationNet(len(LABELS))


@lru_cache(maxsize=2)
def load_network(part: str) -> SegmentationNet:
    """One of the trained networks, in float32."""
    from safetensors.torch import load_file

    network, start = untrained(part), f"{part}."
    tensors = load_file(WEIGHTS).items()
    network.load_state_dict(
        {name.removeprefix(start): one.float() for name, one in tensors if name.startswith(start)}
    )
    return network.eval()


@lru_cache(maxsize=1)
def card() -> dict[str, Any]:
    """What is known of the networks: their data, the template's labels, the weights' hash."""
    loaded: dict[str, Any] = json.loads(CARD.read_text())
    return loaded


def method() -> str:
    """What segments: the SHA-256 of the networks' weights."""
    return str(card()["sha256"])


def template_centers() -> dict[int, list[float]]:
    """The centers of the labels in ICBM152, mm [3] each, by label."""
    return {int(label): center for label, center in card()["template_centers"].items()}
