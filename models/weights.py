"""Save, load and transfer weights.

Our own weights are safetensors (no pickle). Other checkpoints are read by
``torch.load(weights_only=True)``, which rejects any pickle with more than tensors.
"""

import hashlib
import os
import pickle
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from uncus.models.base import Classifier

WRAPPERS = ("module.", "model.", "network.", "net.", "backbone.")
MAX_HEADER = 10 << 20
"""Bytes of a safetensors header, which is parsed at ten times its size."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class TransferReport:
    """Result of :func:`transfer`, by names of tensors."""

    source: str
    loaded: tuple[str, ...]
    """Tensors of the network loaded from the source."""
    fresh: tuple[str, ...]
    """Tensors of the network left at their initial values."""
    unused: tuple[str, ...]
    """Tensors of the source not loaded: running statistics, another head."""
    share: float
    """Share of the network's values, without its head, that was loaded."""
    notes: tuple[str, ...]
    """Remarks for the user, one sentence each."""

    def __str__(self) -> str:
        start = (
            f"{self.source}: {len(self.loaded)} tensors loaded ({self.share:.0%} of the network)"
        )
        return "; ".join([start, *self.notes])


def save_weights(
    model: torch.nn.Module, path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``model``'s parameters and buffers to ``path`` (.safetensors), atomically.

    Parameters
    ----------
    metadata: strings for the file's header.
    """
    path = Path(path)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    whole = save(state, metadata=dict(metadata or {}))
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(whole)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load what :func:`save_weights` wrote into a network of the same configuration.

    A network on torch's device ``meta``, which has shapes and no values, takes the file's tensors.

    Raises
    ------
    ValueError: file missing, truncated or not safetensors; names or shapes that differ from the
        network's; NaN or infinite values. The network is then unchanged.
    """
    state = read_weights(path)
    own = model.state_dict()
    for name in [*own, *state]:
        if name not in state or name not in own:
            missing = "the file lacks" if name not in state else "the network has no"
            raise ValueError(
                f"{path}: {missing} {name!r}; these are weights of another network: "
                "check backbone, norm and width"
            )
        if state[name].shape != own[name].shape:
            raise ValueError(
                f"{path}: {name!r} is {_shape(state[name])}, the network's is {_shape(own[name])}; "
                "these are weights of another network: check width and classes"
            )
    if any(value.is_meta for value in own.values()):
        state = {name: value.to(own[name].dtype) for name, value in state.items()}
        model.load_state_dict(state, assign=True)
    else:
        model.load_state_dict(state)


def trunk_hash(model: Classifier) -> str:
    """SHA-256 of all weights but those of the head and the covariates."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if not name.startswith(("head.", "covariates.")):
            digest.update(name.encode())
            flat = value.detach().cpu().reshape(-1)  # a number alone has no bytes to view
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, or of a checkpoint written by ``torch.save``, on the CPU.

    Looks for a nested ``state_dict`` (or ``model``), and removes wrappers' prefixes such as
    ``module.``.

    Raises
    ------
    ValueError: no such file; truncated or not a checkpoint; a pickle with anything but tensors
        (which is not run); no tensors; NaN or infinite values.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a .safetensors, .pt, .pth or .ckpt file")
    content: Mapping[str, object]
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(nested := content.get(key), Mapping):
            content = nested
            break
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise ValueError(f"{path}: contains no tensors; it must contain a network's state_dict")
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"{path}: {name!r} has NaN or infinite values because its training failed; "
                "use an earlier checkpoint"
            )
    return _unwrap(state)


def transfer(
    model: Classifier,
    state: Mapping[str, Tensor],
    *,
    head: bool = True,
    least: float = 0.9,
    source: str = "the weights",
) -> TransferReport:
    """Initialize ``model`` with the weights of another network of similar shape, in place.

    The norm may differ: gamma and beta are kept, running statistics are dropped where the network
    has none. The head may differ: it then keeps its initial values. MedicalNet's names (``bn1`` for
    ``norm1``) are translated.

    Parameters
    ----------
    model: from ``build_model``.
    state: tensors by name, from :func:`read_weights`.
    head: load the head too where its shape fits; False for another task.
    least: smallest share of the network's values, without its head, that must fit.
    source: name of the weights in the report and in errors.

    Raises
    ------
    ValueError: NaN values, or too few weights that fit; names the first mismatches and, for a
        ResNet, the options that would fit. The network is then unchanged.
    """
    own = model.state_dict()
    given = {_own_name(name): (name, value) for name, value in _unwrap(dict(state)).items()}
    heads = {name for name in own if name.startswith(("head.", "covariates."))}
    take: dict[str, Tensor] = {}
    mismatches: list[str] = []
    for name, mine in own.items():
        if name not in given:
            if not name.endswith(STATISTICS):
                mismatches.append(f"{name} is missing")
        elif given[name][1].shape != mine.shape:
            if name not in heads:
                mismatches.append(f"{name} is {_shape(given[name][1])}, here {_shape(mine)}")
        elif head or name not in heads:
            take[name] = given[name][1].detach().to(mine)
    for name, value in take.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{source}: {name!r} has NaN or infinite values; use other weights")
    body = {name: p.numel() for name, p in model.named_parameters() if name not in heads}
    share = sum(body[name] for name in take if name in body) / max(1, sum(body.values()))
    if share < least:
        raise ValueError(
            f"{source}: only {share:.0%} of the network fits (at least {least:.0%} must): "
            f"{'; '.join(mismatches[:3])}; {_advice(given)}"
        )
    model.load_state_dict({**own, **take})
    unused = tuple(old for name, (old, _) in given.items() if name not in take)
    fresh = tuple(name for name in own if name not in take)
    return TransferReport(
        source, tuple(take), fresh, unused, share, _notes(own, take, fresh, unused)
    )


def _notes(
    own: Mapping[str, Tensor],
    take: Mapping[str, Tensor],
    fresh: tuple[str, ...],
    unused: tuple[str, ...],
) -> tuple[str, ...]:
    notes = []
    if "head.weight" in fresh:
        notes.append("the head is newly initialized")
    if any(name.endswith(("running_mean", "running_var")) for name in unused):
        notes.append("running statistics dropped, gamma and beta kept")
    if any(name.endswith(STATISTICS) for name in fresh):
        notes.append("running statistics are newly initialized: train before predicting")
    trunk = [name for name in fresh if not name.startswith(("head.", "covariates."))]
    others = [name for name in trunk if not name.endswith(STATISTICS)]
    if others:
        notes.append(f"{len(others)} other tensors are newly initialized, among them {others[0]}")
    return tuple(notes)


def _own_name(name: str) -> str:
    """Translate MedicalNet's and torchvision's names to ``norm1`` and ``head``."""
    name = re.sub(r"(^|\.)bn(\d)\.", r"\1norm\2.", name)
    return re.sub(r"^fc\.", "head.", name)


def _unwrap(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes that all names share (DataParallel's ``module.``, Lightning's)."""
    while True:
        shared = [p for p in WRAPPERS if state and all(name.startswith(p) for name in state)]
        if not shared:
            return state
        state = {name[len(shared[0]) :]: value for name, value in state.items()}


def _advice(given: Mapping[str, tuple[str, Tensor]]) -> str:
    """The options that would fit a ResNet's weights; otherwise what to check."""
    blocks = [
        len({m[1] for name in given if (m := re.match(rf"layer{stage}\.(\d+)\.", name))})
        for stage in (1, 2, 3, 4)
    ]
    stem = given.get("conv1.weight")
    if stem is None or stem[1].ndim != 5 or not all(blocks):
        return "check that backbone and width match the weights"
    bottleneck = "layer1.0.conv3.weight" in given
    depth = (3 if bottleneck else 2) * sum(blocks) + 2
    shortcut = "B" if any(".downsample." in name for name in given) else "A"
    return (
        f"the weights look like --backbone resnet{depth} --width {stem[1].shape[0]} "
        f"--stem-kernel {stem[1].shape[-1]} --shortcut {shortcut}"
        + " --stem-pool"
        * (stem[1].shape[-1] == 7)  # as in MedicalNet
    )


def check_header(path: Path) -> None:
    """Raise ValueError for a safetensors header that is larger than any network's."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
    if size > MAX_HEADER:
        raise ValueError(f"its header has {size} bytes")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        check_header(path)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path}: not a complete safetensors file ({_first_line(error)}); copy it again"
        ) from None


def _read_torch(path: Path) -> Mapping[str, object]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: not loaded: this checkpoint contains more than tensors, or is damaged "
            f"({_first_line(error)}); save its state_dict alone, or copy it again"
        ) from None
    except Exception as error:  # damaged bytes may raise anything
        raise ValueError(
            f"{path}: not a complete checkpoint ({_first_line(error)}); copy it again"
        ) from None
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path}: contains a {type(content).__name__}; it must contain a state_dict"
        )
    return content


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:100]


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"
