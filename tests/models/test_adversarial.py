"""Adversarial volumes, against a linear network whose worst direction is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uncus.models.adversarial import Loss, fast_fgsm, fgsm, pgd
from uncus.models.build import ModelConfig, build_model

EPS = 0.1


def ball(count: int = 4) -> Tensor:
    """[N, 1, 16, 16, 16] of noise in a ball, background 0."""
    radius = (torch.stack(torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij")) - 7.5).norm(
        dim=0
    )
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 1, 16, 16, 16, generator=generator) * (radius < 7)


def linear() -> tuple[Tensor, Loss]:
    """Weights w, and the loss log(1 + exp(-w x)) of each volume x of the positive class."""
    weights = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(1)) / 30
    return weights, lambda x: F.softplus(-(x[:, 0] * weights).sum((1, 2, 3)))


def network(norm: str = "group") -> Loss:
    """The loss of each volume in a small network, each of another class."""
    model = build_model(ModelConfig("tiny", norm=norm), seed=0).eval()
    return lambda x: F.cross_entropy(model(x), torch.arange(len(x)) % 2, reduction="none")


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_of_a_linear_network_the_worst_is_against_its_weights(attack: object) -> None:
    weights, loss = linear()
    volumes = ball()
    found = attack(loss, volumes, EPS)  # type: ignore[operator]
    worst = volumes - EPS * weights.sign() * (volumes != 0)
    torch.testing.assert_close(found, worst)


def fast(loss: Loss, volumes: Tensor, eps: float) -> Tensor:
    """From a start drawn by torch's generator."""
    return fast_fgsm(loss, volumes, eps, torch.empty_like(volumes).uniform_(-1, 1))


def test_from_a_random_start_most_voxels_are_at_the_limit() -> None:
    torch.manual_seed(0)
    weights, loss = linear()
    volumes = ball()
    change = fast(loss, volumes, EPS) - volumes
    inside = volumes != 0
    against = torch.isclose(change, -EPS * weights.sign().expand_as(change), atol=1e-6)
    assert against[inside].float().mean() == pytest.approx(5 / 8, abs=0.03)  # starts below eps / 4
    assert not torch.equal(fast(loss, volumes, EPS), volumes + change)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_losses_rise_within_eps_and_the_background_stays(norm: str) -> None:
    volumes, loss = ball(), network(norm)
    plain = loss(volumes)
    losses = []
    for attack in (fast, fgsm, pgd):
        found = attack(loss, volumes, EPS)
        losses.append(loss(found))
        assert not found.requires_grad and (losses[-1] > plain).all()
        assert (found - volumes).abs().max() <= EPS + 1e-6
        assert (found[volumes == 0] == 0).all()
    assert (losses[2] >= losses[1]).all() and (losses[2] > losses[1]).any()


def test_eps_0_changes_nothing() -> None:
    for attack in (fgsm, pgd, fast):
        assert torch.equal(attack(network(), ball(), 0.0), ball())


def test_each_volume_may_have_its_own_eps() -> None:
    volumes, eps = ball(1), torch.tensor([0.01, 0.1, 0.0]).view(-1, 1, 1, 1, 1)
    model = build_model(ModelConfig("tiny"), seed=0).eval()
    known = torch.tensor([1])

    def loss(x: Tensor) -> Tensor:
        return F.cross_entropy(model(x), known.expand(len(x)), reduction="none")

    for attack in (fgsm, pgd):
        together = attack(loss, volumes.expand(3, *volumes.shape[1:]), eps)
        for one, alone in zip(together, (0.01, 0.1, 0.0), strict=True):
            change = (one - attack(loss, volumes, alone)[0]).abs() > 1e-6
            assert change.float().mean() < 0.02  # but where a gradient is nearly 0
