"""The segmentation network: shapes, one volume per batch, Group Normalization throughout."""

import torch
from torch import nn

from uncus.data.segmentation.network import SegmentationNet


def test_every_voxel_gets_its_scores() -> None:
    network = SegmentationNet(5, widths=(8, 8, 16))
    assert network(torch.zeros(1, 1, 16, 24, 32)).shape == (1, 5, 16, 24, 32)
    network = SegmentationNet(5, widths=(8, 8, 16), halved=False)
    assert network(torch.zeros(1, 1, 16, 24, 32)).shape == (1, 5, 16, 24, 32)
    kinds = {type(module) for module in network.modules()}
    assert nn.GroupNorm in kinds and nn.BatchNorm3d not in kinds


def test_it_learns_from_one_volume() -> None:
    torch.manual_seed(0)
    network = SegmentationNet(2, widths=(8, 8), groups=4)
    image = torch.randn(1, 1, 16, 16, 16)
    labels = (image[:, 0] > 0).long()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(network(image), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
