"""The fused layer alone and within every network."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.models.fused.checks import (
    gradients,
)
from uncus.models.build import BACKBONES, ModelConfig, build_model
from uncus.models.fused import FusedGroupNorm, layer, operation
from uncus.models.norms.norm_act import norm_act


def test_takes_group_norms_weights_and_trains_like_it() -> None:
    torch.manual_seed(0)
    plain, ours = nn.GroupNorm(2, 6), FusedGroupNorm(6, 2, "relu")
    nn.init.normal_(plain.weight)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(2, 6, 3, 3, 3)
    torch.testing.assert_close(ours(x), F.relu(plain(x)))


def test_other_strides_and_empty_batches(way: str) -> None:
    torch.manual_seed(0)
    norm = FusedGroupNorm(4, 2, "relu")
    x = torch.randn(3, 4, 6, 5, 8)
    part = x[:, :, ::2, :, 1:]
    torch.testing.assert_close(norm(part), norm(part.contiguous()))
    empty = torch.zeros(0, 4, 3, 3, 3, requires_grad=True)
    norm(empty).sum().backward()
    assert empty.grad is not None
    assert empty.grad.shape == empty.shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: FusedGroupNorm(6, 4), "do not divide 6"),
        (lambda x: FusedGroupNorm(4, 2, "gelu"), "unknown activation 'gelu'"),
        (lambda x: FusedGroupNorm(4, 2)(x, x), "made with residual=False"),
        (lambda x: FusedGroupNorm(4, 2, residual=True)(x), "made with residual=True"),
        (lambda x: FusedGroupNorm(4, 2, residual=True)(x, x[..., :1]), "must be equal"),
        (lambda x: FusedGroupNorm(8, 2)(x), "4 channels cannot"),
        (lambda x: FusedGroupNorm(4, 2)(x.int()), "floating point"),
        (lambda x: FusedGroupNorm(4, 4)(x[..., :1, :1, :1]), "no variance"),
    ],
)
def test_invalid_input_is_rejected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.ones(1, 4, 2, 2, 2))


# Number of norms that are fused with the activation after them; for the others it comes after
# another library's addition, a pooling, or a nested chain.
ACTIVATED = {
    "tiny": 4,
    "resnet10": 9,
    "resnet18": 17,
    "resnet34": 33,
    "resnet50": 49,
    "sfcn": 1,
    "densenet121": 120,
    "efficientnet-b0": 2,
    "seresnet50": 33,
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_network_uses_it_for_every_norm(backbone: str, monkeypatch) -> None:
    model = build_model(ModelConfig(backbone, width=8, groups=2), seed=0).eval()
    norms = [layer for layer in model.modules() if isinstance(layer, nn.GroupNorm)]
    random = torch.Generator().manual_seed(0)
    for norm in norms:
        nn.init.normal_(norm.weight, generator=random)  # a weight of 0 would hide what follows it
    # In float32, rounding can move a value of a deep network across the ReLU's zero: such a unit's
    # gradient is all there or gone, and that of every weight below changes by up to a tenth.
    model, x = model.double(), torch.randn(1, 1, 33, 36, 34, generator=random).double()
    wanted = gradients(model, x)
    calls: list[str] = []
    taken = operation._forward
    monkeypatch.setattr(
        operation, "_forward", lambda *all_of: calls.append(all_of[6]) or taken(*all_of)
    )
    monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
    torch.testing.assert_close(gradients(model, x), wanted, rtol=1e-8, atol=1e-10)
    assert len(calls) == len(norms)
    activated = len([one for one in calls if one != "none"])
    assert activated == ACTIVATED.get(backbone, activated)


def test_a_hooked_norm_is_called_as_a_module(registered: None) -> None:
    norm, outputs = nn.GroupNorm(2, 4), []
    x = torch.randn(1, 4, 2, 3, 2)
    wanted = norm_act(norm, x)
    norm.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    torch.testing.assert_close(norm_act(norm, x), wanted)
    assert len(outputs) == 1


def test_can_be_turned_off(monkeypatch) -> None:
    monkeypatch.setattr(layer, "uses_kernels", lambda x: True)
    x = torch.zeros(1)
    assert layer.is_fused(x)
    with layer.switched(on=False):
        assert not layer.is_fused(x)
    assert layer.is_fused(x)
