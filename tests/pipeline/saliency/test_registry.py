"""Every saliency method: planted lesions and invalid input."""

from typing import Any

import pytest
import torch

from tests.pipeline.saliency.networks import LesionFinder, planted, trained, volume
from uncus.pipeline.saliency import SALIENCY


@pytest.mark.parametrize("at", [(4, 4, 4), (12, 8, 20), (20, 16, 24)])
@pytest.mark.parametrize(
    ("method", "stride"),
    # The gradient is large at any voxel that the network samples around a lesion.
    [(m, s) for m in SALIENCY for s in (1, 4) if (m, s) != ("gradient", 4)],
)
def test_a_planted_lesion_has_the_maximum(
    method: str, at: tuple[int, int, int], stride: int
) -> None:
    """Not inverted or shifted, with axes in order, and not for the other class."""
    x, lesion = planted(at)
    model = LesionFinder(stride)
    saliency = SALIENCY[method](model, x, 1)
    peak = torch.stack(torch.unravel_index(saliency.argmax(), saliency.shape))
    reach = 4 if method == "occlusion" else 2  # half a cube extends beyond the lesion
    assert (peak - torch.tensor(at)).abs().max() <= reach
    inside, outside = saliency[lesion].mean(), saliency[~lesion].clamp(min=0).mean()
    assert inside > 5 * outside
    if method not in {"gradient"}:
        other = SALIENCY[method](model, x, 0)
        assert other[lesion].max() <= 1e-6


def test_nan_is_rejected() -> None:
    model = trained()
    with torch.no_grad():
        model.head.weight[0, 0] = float("nan")
    for method in SALIENCY.values():
        with pytest.raises(ValueError, match="NaN"):
            method(model, volume(), 1)


@pytest.mark.parametrize("index", [-1, 2])
def test_no_such_class(index: int) -> None:
    with pytest.raises(ValueError, match=f"class_index={index}: the network has 2 outputs"):
        SALIENCY["grad_cam"](trained(), volume(), index)


def test_gradient_methods_are_declared() -> None:
    gradient: dict[str, Any] = {name: entry.gradient for name, entry in SALIENCY.items()}
    assert gradient["gradient"]
    assert gradient["integrated_gradients"]
    assert not gradient["occlusion"]
    assert not gradient["grad_cam"]
