"""Batch group normalization: its formula, limits and default groups."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.norms.formulas import EPS, affine, standardize, trained
from uncus.models.norms.batch_group import BatchGroupNorm, groups_for_batch


@pytest.mark.parametrize("groups", [1, 4, 12, 24])
def test_batch_group_norm_is_its_formula(groups: int, x: Tensor) -> None:
    layer = trained(BatchGroupNorm(12, groups)).train()
    x = x[..., :4]
    flat = x.reshape(3, groups, -1)
    torch.testing.assert_close(layer(x), affine(layer, standardize(flat, (0, 2)).reshape(x.shape)))
    mean, variance = flat.mean((0, 2)), flat.transpose(0, 1).reshape(groups, -1).var(1)
    times = max(12, groups) // groups
    torch.testing.assert_close(layer.group_running_mean, 0.1 * mean.repeat_interleave(times))
    running = 0.9 + 0.1 * variance.repeat_interleave(times)
    torch.testing.assert_close(layer.group_running_var, running)
    layer.eval()
    kept = (x.reshape(3, max(12, groups), -1) - layer.group_running_mean[:, None]) / (
        running[:, None] + EPS
    ).sqrt()
    torch.testing.assert_close(layer(x), affine(layer, kept.reshape(x.shape)))


def test_batch_group_norm_s_limits(x: Tensor) -> None:
    batch, limit = nn.BatchNorm3d(12).double(), BatchGroupNorm(12, 12).double()
    torch.testing.assert_close(limit(x), batch(x))
    torch.testing.assert_close(limit.eval()(x), batch.eval()(x))
    one = x[:1]
    torch.testing.assert_close(BatchGroupNorm(12, 4).double()(one), F.group_norm(one, 4))
    torch.testing.assert_close(BatchGroupNorm(12).double()(one), F.layer_norm(one, one.shape[1:]))


def test_groups_depend_on_the_batch_by_default() -> None:
    batches = (1, 2, 4, 8, 16, 32, 64, 128, 200)
    chosen = [groups_for_batch(batch, 1024) for batch in batches]
    assert chosen == [1, 1, 2, 16, 64, 128, 256, 512, 512]
    assert groups_for_batch(8, 24) == 12
    with pytest.raises(ValueError, match="one value per group"):
        BatchGroupNorm(8, 8)(torch.ones(1, 8, 1, 1, 1))
    with pytest.raises(ValueError, match="nor is a multiple"):
        BatchGroupNorm(12, 8)
    with pytest.raises(ValueError, match="do not divide 4 channels"):
        BatchGroupNorm(4, 8)(torch.ones(1, 4, 3, 3, 3))
