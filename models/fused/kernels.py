"""How the work of GroupNorm + residual + activation is split over a GPU, and launched.

PyTorch uses one block for each of the N*G groups, so one scan in 8 groups occupies 8 of an H100's
132 multiprocessors. Here every (sample, channel) is split into ``splits`` chunks, one program each,
and each direction takes two kernels (``split``); groups so small that a second launch would take
longer than one program's work take one (``whole``). Use them through ``uncus.models.fused``.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from uncus.models.fused import split, whole
from uncus.models.fused.launch import Launch
from uncus.models.fused.tiles import ACTIVATIONS, GATES


class Settings(NamedTuple):
    """How the work is split; this changes only the last digits of the results.

    tile: elements that a program loads at once.
    warp_elements: of these, per warp: 512 are 16 per thread, two 16-byte loads in bf16.
    programs: per multiprocessor; 0 for as many as its registers and memory hold at once.
    channels: of a channels-last tile; 64 are 128 bytes of bf16 in one row.
    group: elements of the largest group that one program normalizes alone, in one launch.
    """

    tile: int = 2048
    warp_elements: int = 512
    programs: int = 0
    channels: int = 64
    group: int = 65536


# By layout.
DEFAULTS = {False: Settings(), True: Settings()}

# (device name in torch, channels last) -> the fastest settings by ``uncus bench tune``.
TUNED: dict[tuple[str, bool], Settings] = {}

_tried: dict[bool, Settings] = {}  # by layout, on any device

PROGRAMS = 8
"""Programs per multiprocessor where the compiler has not been asked: 64 registers per thread."""
GROUP_BYTES = {"forward": 2**15, "backward": 2**14}
"""What a group's one program loads at once; backward needs more registers for each element."""


@contextmanager
def using(chosen: Settings, last: bool) -> Iterator[None]:
    """Use ``chosen`` for one layout within the context, on any device."""
    before = _tried.get(last)
    _tried[last] = chosen
    try:
        yield
    finally:
        _tried.pop(last)
        if before is not None:
            _tried[last] = before


def settings(device: torch.device, last: bool) -> Settings:
    """The kernels' settings on ``device`` for one layout."""
    return _tried.get(last) or TUNED.get((device_name(device), last)) or DEFAULTS[last]


@functools.cache
def device_name(device: torch.device) -> str:
    """The device's name in torch; empty for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


class Device(NamedTuple):
    """Multiprocessors of a device and the bytes that one program may share."""

    processors: int
    shared: int


@functools.cache
def device_of(device: torch.device) -> Device:
    """Of ``device``; a CPU, which interprets the kernels, is a small one."""
    if device.type != "cuda":
        return Device(1, 2**16)
    found = torch.cuda.get_device_properties(device)
    return Device(found.multi_processor_count, found.shared_memory_per_multiprocessor - 1024)


class Plan(NamedTuple):
    """How a [N, C, S] tensor is split: ``splits`` chunks of ``chunk`` voxels, in tiles.

    ``tiles`` and ``padded`` are compile-time constants of the kernels.
    """

    splits: int
    chunk: int
    block_c: int
    block_s: int
    warps: int
    programs: int
    tiles: dict[str, Any]
    padded: dict[str, Any]


def plan(
    n: int, c: int, s: int, groups: int, last: bool, chosen: Settings, processors: int
) -> Plan:
    """Split a tensor of ``n`` samples, ``c`` channels in ``groups`` and ``s`` voxels."""
    block_c = min(triton.next_power_of_2(c), chosen.channels) if last else 1
    block_s = min(triton.next_power_of_2(s), max(chosen.tile // block_c, 1))
    columns = n * triton.cdiv(c, block_c)
    tiles = triton.cdiv(s, block_s)
    programs = (chosen.programs or PROGRAMS) * processors
    splits = min(max(programs // columns, 1), tiles)
    chunk = triton.cdiv(tiles, splits) * block_s
    splits = triton.cdiv(s, chunk)
    return Plan(
        splits, chunk, block_c, block_s, _warps(block_c * block_s, chosen, 8), columns * splits,
        {
            "LAST": last,
            "EVEN": _even(c if last else s),
            "EDGES": not last and s % 16 != 0 and min(s, block_s) >= 64,
            "BLOCK_C": block_c,
            "BLOCK_S": block_s,
        },
        {
            "MEMBERS": triton.next_power_of_2(c // groups),
            "SPLITS": triton.next_power_of_2(splits),
        },
    )  # fmt: skip


def group_plan(
    c: int, s: int, groups: int, last: bool, chosen: Settings, tile: int
) -> tuple[int, dict[str, Any]] | None:
    """Warps and compile-time constants of a kernel with one program per group.

    None where a group is too large, or a channel of it larger than a ``tile`` of that many
    elements. Channels last, fewer than 8 members are no vector, and only small groups pay.
    """
    members = c // groups
    largest = chosen.group // 32 if last and members < 8 else chosen.group
    row, rows = (members, s) if last else (s, members)
    across = triton.next_power_of_2(row)
    if members * s > largest or across > tile:
        return None
    down = min(triton.next_power_of_2(rows), tile // across)
    block_c, block_s = (across, down) if last else (down, across)
    return _warps(across * down, chosen, 32), {
        "LAST": last,
        "EVEN": _even(c if last else s),
        "BLOCK_C": block_c,
        "BLOCK_S": block_s,
        "SINGLE": down >= rows,
    }


def _warps(elements: int, chosen: Settings, most: int) -> int:
    wanted: int = triton.next_power_of_2(elements) // chosen.warp_elements
    return min(max(wanted, 1), most)


def _even(size: int) -> int:
    """The largest power of two up to 16 that divides ``size``: how far vectors may reach."""
    return math.gcd(size, 16)


class Case(NamedTuple):
    """All that the launches of one direction depend on."""

    shape: tuple[int, ...]
    x: torch.dtype
    weight: torch.dtype
    bias: torch.dtype
    groups: int
    eps: float
    activation: str
    add: bool  # forward: a residual; backward: its gradient is written
    gate: str
    last: bool
    device: torch.device
    chosen: Settings

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, C and S."""
        n, c, *space = self.shape
        return n, c, math.prod(space)

    def values(self, cut: Plan | None = None) -> dict[str, Any]:
        """Arguments of the kernels by name."""
        n, c, s = self.sizes
        known = {
            "N": n, "C": c, "S": s, "n_groups": n * self.groups, "groups": self.groups,
            "members": c // self.groups, "eps": self.eps,
            "ACTIVATION": ACTIVATIONS[self.activation], "ADD": self.add, "WRITE": self.add,
            "GATE": GATES[self.gate], "splits": 1, "size": n * c,
        }  # fmt: skip
        if cut is not None:
            size = n * c * cut.splits
            known |= {"splits": cut.splits, "chunk": cut.chunk, "size": size}
            known |= {**cut.tiles, **cut.padded}
        return known

    def tile(self, direction: str) -> int:
        """Elements that the one program of a small group loads at once."""
        return GROUP_BYTES[direction] // self.x.itemsize

    def stages(self, constants: dict[str, Any], tensors: int) -> int:
        """Tiles of ``tensors`` volumes that fit into a program's memory, up to 3."""
        tile = constants["BLOCK_C"] * constants["BLOCK_S"] * self.x.itemsize * tensors
        fitting: int = device_of(self.device).shared // tile
        return min(max(fitting, 1), 3)

    def fitted(self, build: Callable[[Plan], "Launches"]) -> "Launches":
        """The launches for as many programs as the device holds at once."""
        n, c, s = self.sizes
        processors = device_of(self.device).processors

        def made(programs: int) -> Launches:
            chosen = self.chosen._replace(programs=programs)
            return build(plan(n, c, s, self.groups, self.last, chosen, processors))

        first = made(self.chosen.programs or PROGRAMS)
        if self.chosen.programs or self.device.type != "cuda":
            return first
        types = {name: self.x for name in ("x", "y", "residual", "dy", "other", "dx", "dresidual")}
        types |= {"gamma": self.weight, "dgamma": self.weight}
        types |= {"beta": self.bias, "dbeta": self.bias}
        passes = [one for one in (first.reduce, first.apply) if one]
        held = min(one.resident(types, self.device) for one in passes)
        return first if held == PROGRAMS else made(held)


class Launches(NamedTuple):
    """The kernels of one direction; ``apply`` alone for small groups."""

    apply: Launch
    reduce: Launch | None = None
    merge: Launch | None = None


@functools.lru_cache(maxsize=1024)
def forward_launches(case: Case) -> Launches:
    """The kernels that `forward` launches."""
    n, c, s = case.sizes
    small = group_plan(c, s, case.groups, case.last, case.chosen, case.tile("forward"))
    if small:
        warps, constants = small
        values = {**case.values(), **constants, "STAGES": case.stages(constants, 1 + case.add)}
        return Launches(Launch(whole.forward_kernel, n * case.groups, values, warps))

    def build(cut: Plan) -> Launches:
        values = case.values(cut)
        return Launches(
            Launch(split.apply_kernel, cut.programs, values, cut.warps),
            Launch(split.moments_kernel, cut.programs, values, cut.warps),
            Launch(split.merge_moments_kernel, n * case.groups, values, 8) if case.last else None,
        )

    return case.fitted(build)


@functools.lru_cache(maxsize=1024)
def backward_launches(case: Case) -> Launches:
    """The kernels that `backward` launches."""
    n, c, s = case.sizes
    small = group_plan(c, s, case.groups, case.last, case.chosen, case.tile("backward"))
    if small:
        warps, constants = small
        stages = case.stages(constants, 2 + (case.gate != "affine"))
        values = {**case.values(), **constants, "STAGES": stages}
        values |= {"MEMBERS": triton.next_power_of_2(c // case.groups), "SPLITS": 1}
        merge = Launch(split.merge_sums_kernel, case.groups, values, 8) if n > 1 else None
        one = Launch(whole.backward_kernel, n * case.groups, values, warps)
        return Launches(one, merge=merge)

    def build(cut: Plan) -> Launches:
        values = case.values(cut)
        # Where dz is written, the gate has been applied.
        after = {**values, "ACTIVATION": 0, "GATE": 0} if case.add else values
        return Launches(
            Launch(split.backward_apply_kernel, cut.programs, after, cut.warps),
            Launch(split.backward_reduce_kernel, cut.programs, values, cut.warps),
            Launch(split.merge_sums_kernel, case.groups, values, 8) if case.last else None,
        )

    return case.fitted(build)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None,
    groups: int, eps: float, activation: str, last: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Normalize ``x`` [N, C, ...], dense and channels last if ``last``.

    Returns y (like x), and mean and 1/std [2, N, groups] in float32.
    """
    case = Case(
        _sizes(x), x.dtype, weight.dtype, bias.dtype, groups, eps, activation,
        residual is not None, "affine", last, x.device, settings(x.device, last),
    )  # fmt: skip
    launches = forward_launches(case)
    statistics = torch.empty(2, len(x), groups, dtype=torch.float32, device=x.device)
    y = torch.empty_like(x)
    residual = x if residual is None else residual
    if launches.reduce is None:
        launches.apply(x, residual, weight, bias, y, statistics)
        return y, statistics
    moments = torch.empty(2, launches.reduce.rest["size"], dtype=torch.float32, device=x.device)
    launches.reduce(x, moments)
    if launches.merge:
        launches.merge(moments, statistics)
    launches.apply(x, residual, weight, bias, y, moments, statistics)
    return y, statistics


def backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None, gate: str,
    statistics: Tensor, activation: str, last: bool, write: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """dx, dgamma, dbeta and, with ``write``, the residual's gradient (otherwise None).

    ``dy`` and ``other`` (y or the residual, depending on ``gate``) are dense like ``x``;
    ``statistics`` are those of `forward`.
    """
    case = Case(
        _sizes(x), x.dtype, weight.dtype, bias.dtype, statistics.shape[2], 0.0, activation,
        write, gate, last, x.device, settings(x.device, last),
    )  # fmt: skip
    launches = backward_launches(case)
    dx = torch.empty_like(x)
    dz = torch.empty_like(x) if write else None
    dgamma, dbeta = torch.empty_like(weight), torch.empty_like(bias)
    other = x if other is None else other
    dz_or_x = x if dz is None else dz
    if launches.reduce is None:
        if launches.merge is None:
            launches.apply(x, dy, other, weight, bias, statistics, dx, dz_or_x, dgamma, dbeta)
        else:
            sums = torch.empty(2, *x.shape[:2], dtype=torch.float32, device=x.device)
            launches.apply(x, dy, other, weight, bias, statistics, dx, dz_or_x, sums[1], sums[0])
            launches.merge(sums, weight, torch.empty_like(statistics), dgamma, dbeta)
        return dx, dgamma, dbeta, dz
    sums = torch.empty(2, launches.reduce.rest["size"], dtype=torch.float32, device=x.device)
    group_sums = torch.empty_like(statistics)
    launches.reduce(x, dy, other, weight, bias, statistics, sums, dz_or_x)
    if launches.merge:
        launches.merge(sums, weight, group_sums, dgamma, dbeta)
    launches.apply(
        x, dy if dz is None else dz, other, weight, bias, statistics, sums, group_sums,
        dx, dgamma, dbeta,
    )  # fmt: skip
    return dx, dgamma, dbeta, dz


def _sizes(x: Tensor) -> tuple[int, ...]:
    """The shape in integers, also where torch traces with symbols for them."""
    return tuple(int(size) for size in x.shape)
