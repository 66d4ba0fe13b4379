"""tiny: its size, its resolution, and that it learns amounts."""

import torch

from uncus.models.backbones.tiny import Tiny
from uncus.models.base import count_parameters
from uncus.models.build import ModelConfig, build_model


def test_size_and_resolution() -> None:
    network = Tiny(2)
    assert 10_000 < count_parameters(network) < 20_000
    assert network.features(torch.randn(1, 1, 40, 48, 41)).shape == (1, 16, 10, 12, 11)
    assert network.stride == 4


def test_the_receptive_field_is_23_voxels() -> None:
    network = build_model(ModelConfig("tiny", "batch"), seed=0).eval()  # no statistics over space
    x = torch.zeros(1, 1, 32, 32, 32, requires_grad=True)
    network.features(x + torch.randn(x.shape))[0, :, 4, 4, 4].sum().backward()
    assert x.grad is not None
    field = x.grad[0, 0].nonzero()
    assert field.amin(0).tolist() == [16 - 11] * 3
    assert field.amax(0).tolist() == [16 + 11] * 3


def test_learns_amounts_at_batch_two() -> None:
    """2 or 6 blobs in noise; groups of one and two channels."""
    random = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(24, 1, 20, 20, 20, generator=random)
    y = torch.arange(24) % 2
    for volume, label in zip(x, y.tolist(), strict=True):
        for _ in range(6 if label else 2):
            a, b, c = torch.randint(2, 14, (3,), generator=random).tolist()
            volume[0, a : a + 4, b : b + 4, c : c + 4] += 2
    network = build_model(ModelConfig("tiny", "group", groups=8, dropout=0.0), seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(12):
        for batch in torch.randperm(24, generator=random).split(2):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    assert (network(x).argmax(1) == y).float().mean() > 0.9
