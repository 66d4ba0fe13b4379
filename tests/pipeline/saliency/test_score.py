"""The score against its definition, and batches of volumes."""

import pytest
import torch

from tests.pipeline.saliency.networks import trained, volume
from uncus.pipeline.saliency import SALIENCY, Score
from uncus.pipeline.saliency import score as scoring


def test_score_is_the_log_odds_of_the_class() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64)
    p = logits.softmax(1)
    for k in range(4):
        torch.testing.assert_close(Score(k)(logits), (p[:, k] / (1 - p[:, k])).log())
        torch.testing.assert_close(Score(k)(logits + 7), Score(k)(logits))
    two = logits[:, :2]
    torch.testing.assert_close(Score(1)(two), two[:, 1] - two[:, 0])
    assert torch.equal(Score(2, regression=True)(logits), logits[:, 2])
    assert torch.equal(Score(0)(logits[:, :1]), logits[:, 0])


def test_a_regression_is_explained_by_its_column() -> None:
    model, x = trained(classes=3), volume()
    one = SALIENCY["gradient"](model, x, 2, regression=True)
    volumes = x.clone().requires_grad_()
    model(volumes)[0, 2].backward()
    assert volumes.grad is not None
    torch.testing.assert_close(one, volumes.grad[0, 0].abs())
    assert not torch.allclose(one, SALIENCY["gradient"](model, x, 2))


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_large_volumes_are_computed_one_by_one_with_the_same_map(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = trained(), volume()
    together = SALIENCY[method](model, x, 1)
    monkeypatch.setattr(scoring, "VOXELS_AT_ONCE", x.numel() + 1)
    assert scoring.batch_size(x) == 1
    torch.testing.assert_close(SALIENCY[method](model, x, 1), together)
