# ruff: noqa: N803, SIM102 - names in capitals as kernels have them; constant conditions apart
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
"""What the Triton kernels of ``split`` and ``whole`` share: places in memory, and the arithmetic.

A tile is [BLOCK_C, BLOCK_S], channels by voxels, of a tensor [N, C, S] (``LAST`` false) or
[N, S, C] (channels last). ``row`` is the element at its first channel and voxel 0.
"""

import triton
import triton.language as tl

NONE, RELU, SILU = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
ACTIVATIONS = {"none": 0, "relu": 1, "silu": 2}
# What the backward pass recomputes z from: xhat, xhat and the residual, or y (enough for ReLU).
AFFINE, RESIDUAL, OUTPUT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
GATES = {"affine": 0, "residual": 1, "output": 2}


@triton.jit
def multiple(size, EVEN: tl.constexpr):
    """``size``, known to the compiler to be a multiple of ``EVEN``."""
    return size // EVEN * EVEN


@triton.jit
def chunk_of(
    program, C, S, splits, LAST: tl.constexpr, EDGES: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Sample, first channel, chunk, row and turn of a program.

    If S is no multiple of 16 elements (``EDGES``), a channel starts anywhere, but 16-byte loads
    start at multiples. Its voxels are then numbered from the first multiple within it, ``turn``
    voxels from its start; those before come last. So all but the last few are loaded in vectors.
    """
    split = program % splits
    column = program // splits
    columns = tl.cdiv(C, BLOCK_C)
    n = column // columns
    c0 = (column % columns) * BLOCK_C
    row = n.to(tl.int64) * C * S
    turn = 0
    if LAST:
        row += c0
    else:
        row += c0.to(tl.int64) * S
    if EDGES:
        start = row
        row = (start + 15) // 16 * 16
        turn = (row - start).to(tl.int32)
    return n, c0, split, row, turn


@triton.jit
def places(
    row, s, turn, C, S, LAST: tl.constexpr, EDGES: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """First element, offsets and voxels of the tile at ``s``, and how many voxels vectors cover."""
    lane_c = tl.arange(0, BLOCK_C)[:, None]
    lane_s = tl.arange(0, BLOCK_S)[None, :]
    if LAST:
        start = row + tl.cast(s, tl.int64) * C
        offsets = lane_s * C + lane_c
    else:
        start = row + s
        offsets = lane_c * S + lane_s
    covered = S
    if EDGES:
        covered = (S - turn) // 16 * 16
    return start, offsets, s + lane_s, covered


@triton.jit
def edge_of(voxel, turn, S):
    """Elements, from ``row``, of voxels that vectors do not cover."""
    return tl.where(voxel < S - turn, voxel, voxel - S)


@triton.jit
def load_tile(
    pointer, row, s, turn, keep, C, S, LAST: tl.constexpr, EDGES: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, FINAL: tl.constexpr = False,
):  # fmt: skip
    """Values in float32 at the voxels from ``s`` of the channels to ``keep``; 0 outside.

    A FINAL read marks the values as the first to leave the cache.
    """
    start, offsets, voxel, covered = places(row, s, turn, C, S, LAST, EDGES, BLOCK_C, BLOCK_S)
    mask = keep[:, None] & (voxel < covered)
    if FINAL:
        value = tl.load(
            pointer + start + offsets, mask=mask, other=0, eviction_policy="evict_first"
        )
    else:
        value = tl.load(pointer + start + offsets, mask=mask, other=0)
    if EDGES:
        if s + BLOCK_S > covered:
            edge = keep[:, None] & (voxel >= covered) & (voxel < S)
            single = tl.load(pointer + row + edge_of(voxel, turn, S), mask=edge, other=0)
            value = tl.where(edge, single, value)
    return value.to(tl.float32)


@triton.jit
def store_tile(
    pointer, value, row, s, turn, keep, C, S, LAST: tl.constexpr, EDGES: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Store float32 values, rounded to the pointer's type, where `load_tile` reads."""
    start, offsets, voxel, covered = places(row, s, turn, C, S, LAST, EDGES, BLOCK_C, BLOCK_S)
    value = value.to(pointer.dtype.element_ty)
    tl.store(pointer + start + offsets, value, mask=keep[:, None] & (voxel < covered))
    if EDGES:
        if s + BLOCK_S > covered:
            edge = keep[:, None] & (voxel >= covered) & (voxel < S)
            tl.store(pointer + row + edge_of(voxel, turn, S), value, mask=edge)


@triton.jit
def load_channels(pointer, c, mask):
    """Values [BLOCK_C, 1] in float32 of the channels (or groups) ``c``."""
    return tl.load(pointer + c, mask=mask, other=0).to(tl.float32)[:, None]


@triton.jit
def activate(z, ACTIVATION: tl.constexpr):
    """The activation of z, whose comparisons are written so that NaN stays NaN, as in torch."""
    if ACTIVATION == RELU:
        z = tl.where(z <= 0, 0.0, z)
    elif ACTIVATION == SILU:
        z = z / (1 + tl.exp(-z))
    return z


@triton.jit
def gradient(dy, xhat, gamma, beta, other, ACTIVATION: tl.constexpr, GATE: tl.constexpr):
    """dz from dy; ``other`` are values of the residual or of y, if the gate needs one."""
    if ACTIVATION == NONE:
        return dy
    if GATE == OUTPUT:
        z = other
    else:
        z = xhat * gamma + beta
        if GATE == RESIDUAL:
            z += other
    if ACTIVATION == RELU:
        return tl.where(z <= 0, 0.0, dy)
    gate = 1 / (1 + tl.exp(-z))
    return dy * gate * (1 + z * (1 - gate))
