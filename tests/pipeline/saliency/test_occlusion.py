"""Occlusion against sums over its blocks."""

import pytest
import torch
from torch import Tensor

from tests.pipeline.saliency.networks import SHAPE, LesionFinder, Linear, planted, volume
from uncus.pipeline.saliency import SALIENCY, occlusion
from uncus.pipeline.saliency.occlusion import choose_blocks, occlude_regions


def test_occlusion_of_a_linear_network_is_the_mean_of_its_blocks() -> None:
    weights = torch.randn(1, 1, *SHAPE, dtype=torch.float64)
    x = volume()
    saliency = SALIENCY["occlusion"](Linear(weights), x, 1)
    total, times = torch.zeros(SHAPE).double(), torch.zeros(SHAPE).double()
    for block in choose_blocks(x[0, 0] != 0, occlusion.OCCLUSIONS):
        total[block] += (weights * x)[0, 0][block].sum()
        times[block] += 1
    torch.testing.assert_close(saliency, total / times.clamp(min=1))


@pytest.mark.parametrize("shape", [(40, 48, 40), (88, 10, 88), (7, 3, 5), (96, 112, 96)])
@pytest.mark.parametrize("most", [50, 400])
def test_blocks_cover_the_brain_and_are_few(shape: tuple[int, int, int], most: int) -> None:
    axes = [torch.linspace(-1, 1, size) for size in shape]
    brain = sum(g**2 for g in torch.meshgrid(*axes, indexing="ij")) < 1.2
    blocks = choose_blocks(brain, most)
    assert len(blocks) <= most
    covered = torch.zeros(shape, dtype=torch.bool)
    for block in blocks:
        assert brain[block].any()
        covered[block] = True
    assert covered[brain].all()
    if shape == (40, 48, 40) and most == 400:
        assert len(blocks) > 100, "larger blocks than needed"
        assert max(s.stop - s.start for s in blocks[0]) <= 12


def test_the_number_of_forward_passes_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    model = LesionFinder(4)
    forward = model.forward

    def counting(x: Tensor) -> Tensor:
        batches.append(len(x))
        return forward(x)

    monkeypatch.setattr(model, "forward", counting)
    SALIENCY["occlusion"](model, planted((12, 8, 16))[0], 1)
    assert 100 < sum(batches) <= occlusion.OCCLUSIONS + 1
    assert max(batches) == occlusion.batch_size(planted((12, 8, 16))[0])


def test_an_empty_volume_is_rejected() -> None:
    with pytest.raises(ValueError, match="0 everywhere"):
        SALIENCY["occlusion"](LesionFinder(4), torch.zeros(1, 1, 8, 8, 8), 1)


def test_occlusion_of_regions() -> None:
    weights = torch.randn(1, 1, *SHAPE, dtype=torch.float64)
    x = volume()
    labels = torch.zeros(SHAPE, dtype=torch.int16)
    labels[4:8] = 17
    labels[10:12, 3:6] = 53
    saliency, lost = occlude_regions(Linear(weights), x, 1, labels)
    assert set(lost) == {17, 53}
    for label, value in lost.items():
        assert value == pytest.approx(float((weights * x)[0, 0][labels == label].sum()))
        assert torch.all(saliency[labels == label] == value)
    assert not saliency[labels == 0].any()
    with pytest.raises(ValueError, match="resample them"):
        occlude_regions(Linear(weights), x, 1, labels[:4])
