"""Properties that every registry entry must have: one table for each registry.

`tests/test_contracts.py` checks them for all entries, new norms, backbones and saliency methods
included. To require a new property, add a function to a table.
"""

import copy
import io
import json
import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model
from uncus.models.norms import NORMS, Norm, make_norm
from uncus.models.swap import check_norms, find_norms
from uncus.pipeline.saliency import Saliency

SLAB = (40, 10, 36)
"""Voxels; the short axis is 1 after four halvings."""


def volumes(batch: int, shape: tuple[int, int, int] = SLAB, seed: int = 0) -> Tensor:
    """Random volumes [batch, 1, *shape] with background 0 on one side."""
    x = torch.randn(batch, 1, *shape, generator=torch.Generator().manual_seed(seed))
    x[:, :, :3] = 0
    return x


def randomize(model: Classifier, seed: int = 0) -> Classifier:
    """Randomize norms, biases and running statistics as if the network were trained."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                scale = 0.3 * torch.randn(parameter.shape, generator=random)
                parameter.copy_(1 + scale if name.endswith("weight") else scale)
        for layer in model.modules():
            for name, buffer in layer.named_buffers(recurse=False):
                if name.endswith("running_mean"):
                    buffer.normal_(0, 0.1, generator=random)
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 1.5, generator=random)
    return model


# Networks: property(randomized model in evaluation mode, its configuration)


def accepts_any_batch_size(model: Classifier, config: ModelConfig) -> None:
    for batch in (1, 2):
        output = model(volumes(batch))
        assert output.shape == (batch, config.classes)
        assert output.isfinite().all()
        assert output.std() > 0


def has_no_other_norm(model: Classifier, config: ModelConfig) -> None:
    check_norms(model, config.norm, config.groups)
    named = [m for m in model.modules() if "norm" in type(m).__name__.lower()]
    assert named
    assert {type(m) for m in named} == {NORMS[config.norm].module}
    running = any("running" in name for name in model.state_dict())
    assert running == NORMS[config.norm].running_statistics


def ignores_other_samples(model: Classifier, config: ModelConfig) -> None:
    batch = torch.cat([volumes(2), 5 + 3 * volumes(1, seed=1)])
    together = model(batch)
    alone = torch.cat([model(one[None]) for one in batch])
    swapped = model(batch.flip(0)).flip(0)
    # Untrained running statistics let logits grow into the thousands.
    scale = max(1.0, float(together.detach().abs().max()))
    for other in (alone, swapped):
        difference = (together / scale).softmax(1) - (other / scale).softmax(1)
        assert difference.abs().max() <= 1e-5


def classifies_its_features(model: Classifier, config: ModelConfig) -> None:
    x = volumes(2)
    feature_map = model.features(x)
    assert feature_map.ndim == 5
    assert feature_map.shape[:2] == (2, model.head.in_features)
    assert torch.equal(model.classify(feature_map), model(x))
    for size, small in zip(SLAB, feature_map.shape[2:], strict=True):
        assert small in (size // model.stride, math.ceil(size / model.stride))


def has_gradients_everywhere(model: Classifier, config: ModelConfig) -> None:
    # A narrow bottleneck may be dead behind its ReLU for one seed, not for all.
    dead = {name for name, _ in model.named_parameters()}
    for seed in range(5):
        randomize(model, seed).zero_grad()
        nn.functional.cross_entropy(model(volumes(2)), torch.tensor([0, 1])).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"no gradient reaches {name}"
            assert parameter.grad.isfinite().all(), name
            if parameter.grad.any():
                dead.discard(name)
        if not dead:
            return
    raise AssertionError(f"the gradient is always 0 at {sorted(dead)}")


def trains_at_batch_one(model: Classifier, config: ModelConfig) -> None:
    model.train()
    output = model(volumes(1))
    output.sum().backward()
    assert output.isfinite().all()


PRECISE = (40, 4, 4)
"""Voxels; two features are left at stride 32, the least that every norm takes."""


def runs_at_batch_one_and_two_in_both_precisions(model: Classifier, config: ModelConfig) -> None:
    """Forward, backward and inference.

    In bf16 by torch's own convolutions: oneDNN's are wrong on some CPUs, see
    uncus.pipeline.training.bf16_check.
    """
    for batch, half in product((1, 2), (False, True)):
        x = volumes(batch, PRECISE)
        model.train().zero_grad()
        narrow = torch.autocast("cpu", dtype=torch.bfloat16, enabled=half)
        with torch.backends.mkldnn.flags(enabled=not half):
            with narrow:
                output = model(x)
            output.float().square().sum().backward()
        assert output.isfinite().all()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"no gradient reaches {name}"
            assert parameter.grad.isfinite().all(), f"{name} at batch {batch}, bf16 {half}"
        model.eval()
        with torch.no_grad(), narrow:
            assert model(x).isfinite().all()


def survives_bfloat16(model: Classifier, config: ModelConfig) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(volumes(2))
    assert output.isfinite().all()
    exact = model(volumes(2))
    # bf16 has 8 bits, and errors add up over dozens of layers
    assert (output.float() - exact).abs().max() < 0.25 * max(1, exact.abs().max())


def loads_its_state(model: Classifier, config: ModelConfig) -> None:
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    other = build_model(ModelConfig.from_dict(json.loads(json.dumps(config.as_dict()))), seed=7)
    other.eval()
    assert not torch.allclose(other(volumes(1)), model(volumes(1)))
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other(volumes(1)), model(volumes(1)))


def depends_on_its_seed(model: Classifier, config: ModelConfig) -> None:
    before = torch.get_rng_state()
    states = [build_model(config, seed=seed).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def has_the_same_initial_weights_with_any_norm(model: Classifier, config: ModelConfig) -> None:
    other = "batch" if config.norm == "group" else "group"
    names = {**config.as_dict(), "norm": other}
    mine, theirs = (
        dict(build_model(c, seed=1).named_parameters())
        for c in (config, ModelConfig.from_dict(names))
    )
    norms = tuple(f"{name}." for name in find_norms(model))
    assert all(name.startswith(norms) for name in mine.keys() ^ theirs.keys())
    assert all(torch.equal(mine[name], theirs[name]) for name in mine.keys() & theirs.keys())


def exports(model: Classifier, config: ModelConfig) -> None:
    """`torch.export` supports the network with a dynamic batch size."""
    free = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (volumes(2),), dynamic_shapes=({0: free},))
    exported = program.module()
    for batch in (1, 3):
        assert torch.allclose(exported(volumes(batch)), model(volumes(batch)), atol=1e-5)


NORM_IN_MODEL_PROPERTIES: dict[str, Callable[[Classifier, ModelConfig], None]] = {
    "has no other norm": has_no_other_norm,
    "accepts any batch size": accepts_any_batch_size,
    "ignores other samples": ignores_other_samples,
    "has gradients everywhere": has_gradients_everywhere,
    "runs at batch 1 and 2 in float32 and bf16": runs_at_batch_one_and_two_in_both_precisions,
}
"""For every backbone with every norm."""

MODEL_PROPERTIES: dict[str, Callable[[Classifier, ModelConfig], None]] = {
    "classifies its features": classifies_its_features,
    "trains at batch one": trains_at_batch_one,
    "survives bfloat16": survives_bfloat16,
    "loads its state": loads_its_state,
    "depends on its seed": depends_on_its_seed,
    "has the same initial weights with any norm": has_the_same_initial_weights_with_any_norm,
}
"""For every backbone with group norm, and a small one with every norm."""


def positions_its_features(model: Classifier, config: ModelConfig) -> None:
    """`offset` and `stride` position the features: mirrored volumes give mirrored features.

    With mirror-symmetric kernels this is exact if the features are symmetric in the volume, as for
    2 * offset + stride * n + 1 voxels.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv3d):
                layer.weight.copy_((layer.weight + layer.weight.flip(2, 3, 4)) / 2)
    size = int(2 * model.offset) + model.stride + 1
    assert size == 2 * model.offset + model.stride + 1
    x = volumes(1, (size, size, size))
    feature_map = model.features(x)
    assert feature_map.shape[2:] == (2, 2, 2)
    mirrored = model.features(x.flip(2, 3, 4)).flip(2, 3, 4)
    scale = feature_map.abs().max()
    assert (feature_map - mirrored).abs().max() < 1e-4 * scale
    assert (feature_map - feature_map.flip(2, 3, 4)).abs().max() > 1e-2 * scale


def starts_blocks_as_shortcuts(model: Classifier, config: ModelConfig) -> None:
    fresh = build_model(config, seed=0)
    zero = [
        name for name, layer in find_norms(fresh).items() if not layer.get_parameter("weight").any()
    ]
    blocks = [name for name, m in fresh.named_modules() if type(m).__name__ in BLOCKS]
    assert len(zero) == len(blocks)
    assert {name.rpartition(".")[0] for name in zero} == set(blocks)


BLOCKS = {"BasicBlock", "Bottleneck"}


# Norms: property(name, entry)


def normalizes(name: str, norm: Norm) -> None:
    layer = norm.build(8, 2).train()
    if name == "frn":  # subtracts no mean and is an activation too
        y = layer(3 * torch.randn(4, 8, 6, 5, 4)).detach()
        assert y.min() == 0
        assert abs(float(y.square().mean()) - 0.5) < 0.05
        return
    y = layer(5 + 3 * torch.randn(4, 8, 6, 5, 4))
    assert y.shape == (4, 8, 6, 5, 4)
    assert abs(float(y.detach().mean())) < 0.05
    assert abs(float(y.detach().std()) - 1) < 0.05


def matches_its_entry(name: str, norm: Norm) -> None:
    layer = make_norm(name, 8, 2)
    assert type(layer) is norm.module
    assert norm.summary
    assert layer.get_parameter("weight").shape == layer.get_parameter("bias").shape == (8,)
    assert any("running" in key for key in layer.state_dict()) == norm.running_statistics
    assert norm.module.__doc__
    assert "arXiv" in norm.module.__doc__, "the docstring names the source"


def depends_on_other_samples_as_declared(name: str, norm: Norm) -> None:
    layer = norm.build(8, 2).train()
    x = torch.randn(3, 8, 4, 4, 4)
    other = torch.cat([x[:1], 10 + 5 * x[1:].pow(3)])  # group norm would undo a linear change
    same = torch.allclose(layer(x)[0], layer(other)[0], atol=1e-5)
    assert same == norm.batch_independent
    layer.eval()
    assert torch.allclose(layer(x)[0], layer(other)[0], atol=1e-6)
    assert torch.allclose(layer(x)[:1], layer(x[:1]), atol=1e-6)


def has_correct_gradients(name: str, norm: Norm) -> None:
    layer = norm.build(4, 2).double().train()
    if name == "batch_channel":  # no gradient passes through its estimates, by definition
        layer.momentum = 0.0
    x = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    parameters = {key: torch.randn_like(p) for key, p in layer.named_parameters()}

    def forward(x: Tensor, *values: Tensor) -> Tensor:
        # batch norm counts batches in place
        buffers = {key: b.clone() for key, b in layer.named_buffers()}
        state = {**buffers, **dict(zip(parameters, values, strict=True))}
        return torch.func.functional_call(layer, state, (x,))

    values = tuple(p.requires_grad_() for p in parameters.values())
    assert torch.autograd.gradcheck(forward, (x, *values))


def keeps_precision(name: str, norm: Norm) -> None:
    layer = norm.build(8, 2).eval()
    x = torch.randn(2, 8, 4, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x.bfloat16())
    assert (y.float() - layer(x)).abs().max() < 0.05


NORM_PROPERTIES: dict[str, Callable[[str, Norm], None]] = {
    "normalizes": normalizes,
    "matches its entry": matches_its_entry,
    "depends on other samples as declared": depends_on_other_samples_as_declared,
    "has correct gradients": has_correct_gradients,
    "keeps precision": keeps_precision,
}


# Saliency: property(entry, model)


def is_on_the_volume_s_grid(method: Saliency, model: Classifier) -> None:
    x = volumes(1)
    saliency = method(model, x, 1)
    assert saliency.shape == SLAB
    assert saliency.isfinite().all()
    assert not saliency.requires_grad
    assert saliency.abs().max() > 0
    assert method.summary
    if not method.signed:
        assert saliency.min() >= 0


def is_reproducible(method: Saliency, model: Classifier) -> None:
    x = volumes(1)
    assert torch.equal(method(model, x, 0), method(model, x, 0))
    with torch.inference_mode():
        assert torch.equal(method(model, x.clone(), 0), method(model, x, 0))


def leaves_the_model_unchanged(method: Saliency, model: Classifier) -> None:
    model.train()
    next(model.parameters()).requires_grad_(False)
    modes = [m.training for m in model.modules()]
    needs = [p.requires_grad for p in model.parameters()]
    state = copy.deepcopy(model.state_dict())
    x = volumes(1)
    kept = x.clone()
    training = method(model, x, 1)
    assert torch.equal(x, kept)
    assert x.grad is None
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == needs
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(training, method(model.eval(), x, 1)), "dropout was on"
    model.requires_grad_(True)


def distinguishes_classes(method: Saliency, model: Classifier) -> None:
    one, other = (method(model, volumes(1), k) for k in (0, 1))
    if method.signed:  # two classes: the score of one is minus that of the other
        assert torch.allclose(one, -other, atol=1e-4 * float(one.abs().max()))
    elif not method.gradient:
        assert not torch.allclose(one, other)


def rejects_invalid_input(method: Saliency, model: Classifier) -> None:
    for volume, index in ((volumes(1), 2), (volumes(1), -1), (volumes(2), 0), (volumes(1)[0], 0)):
        try:
            method(model, volume, index)
        except ValueError as error:
            assert str(index) in str(error) or "shape" in str(error)
        else:
            raise AssertionError("not rejected")


SALIENCY_PROPERTIES: dict[str, Callable[[Saliency, Classifier], None]] = {
    "is on the volume's grid": is_on_the_volume_s_grid,
    "is reproducible": is_reproducible,
    "leaves the model unchanged": leaves_the_model_unchanged,
    "distinguishes classes": distinguishes_classes,
    "rejects invalid input": rejects_invalid_input,
}
