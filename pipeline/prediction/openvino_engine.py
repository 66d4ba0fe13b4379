"""Feature maps by OpenVINO on a CPU, if it is installed and faster than torch.

OpenVINO (the extra ``fast``) is faster than torch by ``uncus bench predict``; ONNX Runtime was not.
The exported graph stays in the memory layout of convolutions throughout (``models/export.py``).
OpenVINO computes in float32, so predictions stay the same: each network is compared with torch when
it is loaded, and torch is used if they differ by more than ``TOLERANCE``. Not every network is
faster: ``auto`` measures this once on each machine. ``openvino-bf16`` must be requested: it is less
precise, and was slower on a CPU without matrix units (AMX).

Exporting a configuration takes some seconds; the graph is cached in the user's cache folder without
weights, which always come from the run's sealed files.
"""

import hashlib
import importlib.util
import json
import platform
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from uncus.data.cache import cache_folder
from uncus.data.errors import BadInput
from uncus.data.files import read_json, write_json
from uncus.models.base import Classifier
from uncus.models.build import ModelConfig
from uncus.models.export import export_features, open_weights
from uncus.models.inference import Trunk, torch_trunk
from uncus.pipeline.timing import measure

Engine = Literal["auto", "torch", "openvino", "openvino-bf16"]
ActiveEngine = Literal["torch", "openvino", "openvino-bf16"]

TOLERANCE: dict[ActiveEngine, float] = {"openvino": 1e-4, "openvino-bf16": 0.05}
"""Largest difference from torch's feature map, as a share of that map's largest value."""
PRECISIONS: dict[ActiveEngine, str] = {"openvino": "f32", "openvino-bf16": "bf16"}
MIN_VOXELS = 500_000
"""Fewest voxels for which ``auto`` uses OpenVINO: below, loading takes longer than it saves."""
MIN_SPEEDUP = 1.1
"""Smallest ratio of torch's time to OpenVINO's for which ``auto`` uses OpenVINO."""
CACHE_FORMAT = 2
"""Version of the cached graphs; increase it when the export changes."""


def available() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def choose(requested: Engine, device: torch.device, voxels: int) -> ActiveEngine:
    """The engine to try for volumes of ``voxels`` voxels.

    Raises
    ------
    ValueError: OpenVINO is requested but not available.
    """
    if requested == "torch":
        return "torch"
    fits = device.type == "cpu" and available()
    if requested == "auto":
        return "openvino" if fits and voxels >= MIN_VOXELS else "torch"
    if device.type != "cpu":
        raise ValueError(f"--engine {requested} requires the CPU; leave it out on {device}")
    if not fits:
        raise ValueError("openvino is not installed; pip install 'uncus[fast]', or leave it out")
    return requested


def openvino_trunks(
    networks: Sequence[Classifier],
    config: ModelConfig,
    shape: Sequence[int],
    if_faster: bool = False,
    engine: ActiveEngine = "openvino",
) -> tuple[Trunk, ...]:
    """Compile the networks' features for batches of exactly ``shape`` [N, 1, X, Y, Z].

    Raises
    ------
    ValueError: they differ from torch's, the network cannot be exported, or, with ``if_faster``,
        OpenVINO is not at least `MIN_SPEEDUP` times as fast as torch.
    """
    folder = _folder(config, shape)
    try:
        graph = _graph(networks[0], folder, (1, *shape[1:]))
        models = (_compiled(graph, one, shape, PRECISIONS[engine]) for one in networks)
        trunks = tuple(_trunk(one, shape) for one in models)
    except (RuntimeError, TypeError, KeyError, OSError, AttributeError, AssertionError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"OpenVINO cannot run {config.backbone}: {line}") from error
    for network, trunk in zip(networks, trunks, strict=True):
        largest = difference(network, trunk, shape)
        if not largest <= TOLERANCE[engine]:
            raise ValueError(
                f"OpenVINO's feature map differs by {largest:.1e} of its largest value"
            )
    if if_faster:
        speedup = _speedup(networks[0], trunks[0], folder, shape)
        if speedup < MIN_SPEEDUP:
            raise ValueError(
                f"OpenVINO is only {speedup:.2f} times as fast as torch for {config.backbone} here"
            )
    return trunks


def _speedup(network: Classifier, trunk: Trunk, folder: Path, shape: Sequence[int]) -> float:
    """Ratio of torch's time to OpenVINO's, measured once on each machine, cached in ``folder``."""
    path = folder / "gain.json"
    machine = f"{platform.node()}, {torch.get_num_threads()} threads"
    known: dict[str, float] = {}
    with suppress(BadInput):
        known = read_json(path)
    if machine not in known:
        volumes = synthetic_volumes(shape)
        works = {
            "torch": partial(torch_trunk(network), volumes),
            "openvino": partial(trunk, volumes),
        }
        times = measure(works, volumes.device, rounds=3)
        known[machine] = times["torch"].median / times["openvino"].median
        if folder.is_dir():  # false if nothing could be cached
            with suppress(BadInput):
                write_json(path, known)
    return known[machine]


def difference(network: Classifier, trunk: Trunk, shape: Sequence[int]) -> float:
    """Largest difference of ``trunk`` from torch on a synthetic volume, as a share of the map's
    largest value; NaN if either has NaN."""
    volumes = synthetic_volumes(shape)
    with torch.inference_mode():
        expected, actual = network.features(volumes[:1]), trunk(volumes)[:1]
    return float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def synthetic_volumes(shape: Sequence[int]) -> Tensor:
    """Volumes [N, 1, X, Y, Z] similar to placed scans: smooth and noisy in a ball, 0 outside."""
    axes = [torch.linspace(-1, 1, size) for size in shape[2:]]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    inside = x * x + y * y + z * z < 0.8
    return torch.where(inside, 0.5 * noise + torch.sin(5 * x) * torch.cos(4 * y + 3 * z), 0.0)


def _folder(config: ModelConfig, shape: Sequence[int]) -> Path:
    """Cache folder of one configuration and shape."""
    names = ("openvino", "torch", "uncus")
    facts: dict[str, Any] = {"format": CACHE_FORMAT, **{name: version(name) for name in names}}
    facts |= {"config": config.trunk, "shape": list(shape)}
    return (
        cache_folder()
        / "openvino"
        / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    )


def _graph(network: Classifier, folder: Path, shape: Sequence[int]) -> Any:
    """OpenVINO's model of a configuration, with its weights as inputs; cached in ``folder``."""
    import openvino

    path = folder / "graph.xml"
    core = openvino.Core()
    if path.is_file():
        return core.read_model(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # raised by torch about torch
        graph = openvino.convert_model(export_features(network, shape))
    _cache(graph, path)
    return graph


def _cache(graph: Any, path: Path) -> None:
    """Save ``graph`` atomically; a folder that cannot be written is ignored."""
    import openvino

    try:
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent.parent))
    except OSError:
        return
    try:
        openvino.save_model(graph, folder / path.name, compress_to_fp16=False)
        folder.rename(path.parent)
    except (OSError, RuntimeError):
        shutil.rmtree(folder, ignore_errors=True)


def _trunk(compiled: Any, shape: Sequence[int]) -> Trunk:
    """Feature extractor from a model of `_compiled` for volumes of ``shape`` [N, 1, X, Y, Z]."""

    def features(volumes: Tensor) -> Tensor:
        assert list(volumes.shape) == list(shape), f"compiled for {shape}, got {volumes.shape}"
        requests = [compiled.create_infer_request() for _ in volumes]
        for request, volume in zip(requests, volumes, strict=True):
            request.start_async([volume[None].contiguous().numpy()])
        for request in requests:
            request.wait()
        return torch.cat([torch.from_numpy(one.get_output_tensor().data) for one in requests])

    return features


def _compiled(graph: Any, network: Classifier, shape: Sequence[int], precision: str = "f32") -> Any:
    """``graph``, for one volume, with the network's weights, compiled for this CPU.

    A volume and its mirror image are computed in parallel, each by half of the threads, which then
    wait less for each other than if all threads computed one volume.
    """
    import openvino
    from openvino import opset13

    model = graph.clone()
    _, *inputs = model.get_parameters()
    weights = open_weights(network)
    assert len(inputs) == len(weights), f"{len(inputs)} inputs for {len(weights)} weights"
    for weight, value in zip(inputs, weights.values(), strict=True):
        weight.output(0).replace(opset13.constant(value.numpy()).output(0))
        model.remove_parameter(weight)
    volumes, *one = shape
    model.reshape([1, *one])  # also fixes sizes that the export leaves dynamic
    threads = torch.get_num_threads()
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": volumes if threads % volumes == 0 else 1,
    }
    return openvino.Core().compile_model(model, "CPU", options)
