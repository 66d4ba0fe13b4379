"""What computes a network's feature map: torch, or on a CPU OpenVINO where it is installed.

OpenVINO (the extra ``fast``) was chosen by measurement (``uncus bench predict``; ONNX Runtime took
as long as torch); a network is written out so that it never leaves the layout of convolutions
(``models/export.py``). It computes in float32, so the answers stay the same; each network is
compared with torch when it is loaded, and left to torch where they differ by more than ``AGREE``.
Not every network gains: ``auto`` measures once, on each machine, and leaves to torch what does not.
``openvino-bf16`` has to be asked for: its answers have fewer digits, and the CPU that it was
measured on, without matrix units (AMX), lost by it.

Exporting a configuration takes some seconds and is kept in the user's cache folder, without
weights: those come from the run's sealed files each time.
"""

import hashlib
import importlib.util
import json
import os
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

from uncus.data.errors import BadInput
from uncus.data.files import read_json, write_json
from uncus.models.base import Classifier
from uncus.models.build import ModelConfig
from uncus.models.export import export_features, open_weights
from uncus.models.inference import Trunk, torch_trunk
from uncus.pipeline.timing import measure

Engine = Literal["auto", "torch", "openvino", "openvino-bf16"]
Taken = Literal["torch", "openvino", "openvino-bf16"]

AGREE: dict[Taken, float] = {"openvino": 1e-4, "openvino-bf16": 0.05}
"""Largest difference from torch's feature map, as a share of that map's largest value."""
PRECISIONS: dict[Taken, str] = {"openvino": "f32", "openvino-bf16": "bf16"}
WORTHWHILE = 500_000
"""Voxels from which ``auto`` takes OpenVINO: below, loading takes longer than it saves."""
GAIN = 1.1
"""Torch's time over OpenVINO's from which ``auto`` takes OpenVINO."""
FORMAT = 2
"""Of what is cached; raised when the export changes."""


def available() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def choose(wanted: Engine, device: torch.device, voxels: int) -> Taken:
    """The engine to try for volumes of so many ``voxels``.

    Raises
    ------
    ValueError: OpenVINO is asked for and cannot be had.
    """
    if wanted == "torch":
        return "torch"
    fits = device.type == "cpu" and available()
    if wanted == "auto":
        return "openvino" if fits and voxels >= WORTHWHILE else "torch"
    if device.type != "cpu":
        raise ValueError(f"--engine {wanted} computes on the CPU; leave it out on {device}")
    if not fits:
        raise ValueError("openvino is not installed; pip install 'uncus[fast]', or leave it out")
    return wanted


def openvino_trunks(
    networks: Sequence[Classifier],
    config: ModelConfig,
    shape: Sequence[int],
    if_faster: bool = False,
    engine: Taken = "openvino",
) -> tuple[Trunk, ...]:
    """The networks' features by OpenVINO, for batches of exactly ``shape`` [N, 1, X, Y, Z].

    Raises
    ------
    ValueError: they differ from torch's, the network cannot be exported, or, with ``if_faster``,
        OpenVINO is not `GAIN` times as fast here.
    """
    kept = _folder(config, shape)
    try:
        graph = _graph(networks[0], kept, (1, *shape[1:]))
        made = (_compiled(graph, one, shape, PRECISIONS[engine]) for one in networks)
        trunks = tuple(_trunk(one, shape) for one in made)
    except (RuntimeError, TypeError, KeyError, OSError, AttributeError, AssertionError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"OpenVINO cannot run {config.backbone}: {line}") from error
    for network, trunk in zip(networks, trunks, strict=True):
        differs = difference(network, trunk, shape)
        if not differs <= AGREE[engine]:
            raise ValueError(
                f"OpenVINO's feature map differs by {differs:.1e} of its largest value"
            )
    if if_faster:
        faster = _gain(networks[0], trunks[0], kept, shape)
        if faster < GAIN:
            raise ValueError(
                f"OpenVINO takes torch's time divided by {faster:.2f} for {config.backbone} here"
            )
    return trunks


def _gain(network: Classifier, trunk: Trunk, folder: Path, shape: Sequence[int]) -> float:
    """Torch's time over OpenVINO's, measured once on each machine and kept in ``folder``."""
    path = folder / "gain.json"
    machine = f"{platform.node()}, {torch.get_num_threads()} threads"
    known: dict[str, float] = {}
    with suppress(BadInput):
        known = read_json(path)
    if machine not in known:
        volumes = made_up(shape)
        works = {
            "torch": partial(torch_trunk(network), volumes),
            "openvino": partial(trunk, volumes),
        }
        times = measure(works, volumes.device, rounds=3)
        known[machine] = times["torch"].median / times["openvino"].median
        if folder.is_dir():  # not where nothing could be kept
            with suppress(BadInput):
                write_json(path, known)
    return known[machine]


def difference(network: Classifier, trunk: Trunk, shape: Sequence[int]) -> float:
    """Largest difference of ``trunk`` from torch on a made-up brain, as a share of the map's
    largest value; NaN where either has one."""
    volumes = made_up(shape)
    with torch.inference_mode():
        want, got = network.features(volumes[:1]), trunk(volumes)[:1]
    return float((got - want).abs().max() / want.abs().max().clamp(min=1e-12))


def made_up(shape: Sequence[int]) -> Tensor:
    """Volumes [N, 1, X, Y, Z] as networks meet them: smooth and noisy in a ball, 0 around it."""
    axes = [torch.linspace(-1, 1, size) for size in shape[2:]]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    inside = x * x + y * y + z * z < 0.8
    return torch.where(inside, 0.5 * noise + torch.sin(5 * x) * torch.cos(4 * y + 3 * z), 0.0)


def cache_folder() -> Path:
    """Where exported graphs are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uncus" / "openvino"


def _folder(config: ModelConfig, shape: Sequence[int]) -> Path:
    """Where what is exported of a configuration is kept."""
    names = ("openvino", "torch", "uncus")
    facts: dict[str, Any] = {"format": FORMAT, **{name: version(name) for name in names}}
    # What the features do not depend on is left out.
    options = {k: v for k, v in config.as_dict().items() if k not in {"classes", "dropout"}}
    facts |= {"config": options, "shape": list(shape)}
    return cache_folder() / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _graph(network: Classifier, folder: Path, shape: Sequence[int]) -> Any:
    """OpenVINO's model of a configuration, its weights still inputs; from its folder if there."""
    import openvino

    kept = folder / "graph.xml"
    core = openvino.Core()
    if kept.is_file():
        return core.read_model(kept)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # torch's, about torch
        graph = openvino.convert_model(export_features(network, shape))
    _keep(graph, kept)
    return graph


def _keep(graph: Any, path: Path) -> None:
    """Save ``graph`` for the next time, whole or not at all; a disk that takes nothing is fine."""
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
    """The feature extractor that `_compiled` made for volumes of ``shape`` [N, 1, X, Y, Z]."""

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
    """``graph``, of one volume, with the network's weights in it, compiled for this CPU.

    A volume and its mirror image are computed side by side, each by half of the threads: so the
    threads wait less for one another than when all of them work on one volume.
    """
    import openvino
    from openvino import opset13

    model = graph.clone()
    _, *places = model.get_parameters()
    weights = open_weights(network)
    assert len(places) == len(weights), f"{len(places)} inputs for {len(weights)} weights"
    for place, value in zip(places, weights.values(), strict=True):
        place.output(0).replace(opset13.constant(value.numpy()).output(0))
        model.remove_parameter(place)
    volumes, *one = shape
    model.reshape([1, *one])  # which also settles the sizes that the export leaves open
    threads = torch.get_num_threads()
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": volumes if threads % volumes == 0 else 1,
    }
    return openvino.Core().compile_model(model, "CPU", options)
