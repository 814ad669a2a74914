"""Malleable convolution: a depthwise convolution whose kernel changes from place to place, blended from a coarse grid.

    y[c](p) = sum_t k[c, t](p) * x[c](p + t) + b[c](p)

k and b at a pixel are blended bilinearly from a grid of kernels, one for each ``stride`` x ``stride`` pixels, whose centres
are the centres of these squares; beyond the outermost centres the outermost kernels hold (``align_corners=False``).

Shape letters: B batch, C channels, K = C / group kernels (channels c of one group share kernel c // group), T taps (1 or 9,
row by row), P = T planes, or T + 1 with an offset, which comes last; H, W size; gh = ceil(H / stride), gw alike.

Source: "Fast and High-Quality Image Denoising via Malleable Convolutions" (ECCV 2022, arXiv 2201.00392), the slice-and-conv
operator; the released operator has 1x1 kernels and an offset.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from grainwise.core.errors import InputError
from grainwise.primitives import malleable_native

Form = Literal["auto", "per_tap", "native", "triton"]


def malleable_conv2d(
    x: Tensor, grid: Tensor, *, stride: int, kernel: int = 3, offset: bool = False, form: Form = "auto"
) -> Tensor:
    """Convolve ``x`` with kernels blended from ``grid``; zeros lie around the picture.

    Tiles: the result at a pixel depends on the pixels within ``kernel // 2`` and on at most 2x2 cells of the grid, in the
    same arithmetic everywhere if the stride is a power of two. A tile that starts at a multiple of the stride, with the
    pixels and the cells that it needs, equals the whole.

    Args:
        x: [B, C, H, W], any H and W from 1.
        grid: [B, P * K, gh, gw]: the K values of the first tap, then those of the second ...; taken in the dtype of ``x``.
        stride: pixels along a side of a cell, from 1.
        kernel: 1 or 3.
        offset: whether the last plane of the grid is an offset that is added.
        form: how to compute it. ``per_tap`` upsamples one tap after the other, in plain torch, anywhere; it also serves
            what is compiled or exported. ``native`` is C++ for float32 and bfloat16 (float32 inside) on the CPU. ``triton``
            is for CUDA. ``auto`` is the fastest that can take ``x``. Its gradient keeps ``x`` and ``grid`` alone.

    Raises:
        InputError: shapes that do not belong together, or a form that cannot be had here.
    """
    _check(x, grid, stride, kernel, offset)
    form = _chosen(x, form)
    if grid.dtype != x.dtype:
        grid = grid.to(x.dtype)
    if torch.is_grad_enabled() and (x.requires_grad or grid.requires_grad):
        y: Tensor = _Malleable.apply(x, grid, stride, kernel * kernel, offset, form)  # type: ignore[no-untyped-call]
        return y
    return _forward(x, grid, stride, kernel * kernel, offset, form)


def form_in_use(x: Tensor) -> str:
    """The form that ``auto`` takes for ``x``; `malleable_native.status` tells why it may not be the native one."""
    return _chosen(x, "auto")


def grid_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """Rows and columns of the grid of a picture."""
    return -(-height // stride), -(-width // stride)


def _check(x: Tensor, grid: Tensor, stride: int, kernel: int, offset: bool) -> None:
    if kernel not in (1, 3) or stride < 1:
        raise InputError(f"a malleable convolution has kernel 1 or 3 and a stride from 1, got {kernel} and {stride}")
    if x.ndim != 4 or min(x.shape) < 1:
        raise InputError(f"a malleable convolution takes [B, C, H, W], got {list(x.shape)}")
    planes = kernel * kernel + offset
    cells = grid_size(x.shape[2], x.shape[3], stride)
    kernels = grid.shape[1] // planes if grid.ndim == 4 else 0
    fits = kernels > 0 and kernels * planes == grid.shape[1] and x.shape[1] % kernels == 0
    if not fits or (grid.shape[0], *grid.shape[2:]) != (x.shape[0], *cells):
        raise InputError(
            f"the grid for {list(x.shape)} at stride {stride} is [{x.shape[0]}, {planes} x (a divisor of {x.shape[1]}), "
            f"{cells[0]}, {cells[1]}], got {list(grid.shape)}"
        )
    if grid.device != x.device:
        raise InputError(f"the picture is on {x.device}, its grid on {grid.device}; bring both to one device")


def _chosen(x: Tensor, form: Form) -> Form:
    """The form to compute with."""
    if form == "per_tap":
        return form
    if form in ("auto", "native") and malleable_native.suits(x) and malleable_native.status().available:
        return "native"
    if form in ("auto", "triton") and x.device.type == "cuda" and x.dtype != torch.float64 and _has_triton():
        return "triton"
    if form == "auto":
        return "per_tap"
    if form == "native":
        why = malleable_native.status().detail if malleable_native.suits(x) else f"for {x.dtype} on {x.device.type}"
        raise InputError(f"the native form is not to be had here ({why}); take form='auto'")
    if form == "triton":
        raise InputError(f"the triton form needs CUDA and triton, got {x.dtype} on {x.device.type}; take form='auto'")
    raise InputError(f"form is auto, per_tap, native or triton, got {form!r}")


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None and not torch.compiler.is_compiling()


def _forward(x: Tensor, grid: Tensor, stride: int, taps: int, offset: bool, form: str) -> Tensor:
    if form == "native":
        return malleable_native.forward(x, grid, stride=stride, taps=taps, offset=offset)
    if form == "triton":
        from grainwise.primitives import malleable_triton

        return malleable_triton.forward(x, grid, stride=stride, taps=taps, offset=offset)
    return _per_tap(x, grid, stride, taps, offset)


class _Malleable(torch.autograd.Function):
    """Keeps x and the grid, and blends the kernels anew for the gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, grid: Tensor, stride: int, taps: int, offset: bool, form: str) -> Tensor:
        ctx.save_for_backward(x, grid)
        ctx.how = (stride, taps, offset, form)  # type: ignore[attr-defined]
        return _forward(x, grid, stride, taps, offset, form)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, grid = ctx.saved_tensors  # type: ignore[attr-defined]
        stride, taps, offset, form = ctx.how  # type: ignore[attr-defined]
        if form == "native":
            gradients = malleable_native.backward(dy, x, grid, stride=stride, taps=taps, offset=offset)
        elif form == "triton":
            from grainwise.primitives import malleable_triton

            gradients = malleable_triton.backward(dy, x, grid, stride=stride, taps=taps, offset=offset)
        else:
            gradients = _per_tap_backward(dy, x, grid, stride, taps, offset)
        return (*gradients, None, None, None, None)


def _blend(cells: Tensor, stride: int, size: torch.Size) -> Tensor:
    """[B, K, gh, gw] -> [B, K, H, W], through channels_last: torch then rounds alike at every pixel, else not at row ends."""
    cells = cells.contiguous(memory_format=torch.channels_last)
    if stride > 1:
        cells = F.interpolate(cells, scale_factor=stride, mode="bilinear", align_corners=False)
    return cells[:, :, : size[2], : size[3]]


def _blend_adjoint(values: Tensor, stride: int, cells: torch.Size) -> Tensor:
    """The adjoint of `_blend`: [B, K, H, W] -> [B, K, gh, gw]."""
    if stride == 1:
        return values
    rows, columns = cells[2] * stride, cells[3] * stride
    if (rows, columns) != values.shape[2:]:
        values = F.pad(values, (0, columns - values.shape[3], 0, rows - values.shape[2]))
    size = [values.shape[0], values.shape[1], cells[2], cells[3]]
    scale = float(stride)
    blended: Tensor = torch.ops.aten.upsample_bilinear2d_backward(values, [rows, columns], size, False, scale, scale)
    return blended


def _shift(tap: int, taps: int) -> tuple[int, int]:
    """Row and column, in the picture with a border of ``taps // 9``, at which the tap reads the first pixel."""
    return divmod(tap, 3) if taps == 9 else (0, 0)


def _grouped(x: Tensor, kernels: int) -> Tensor:
    """[B, C, H, W] -> [B, K, group, H, W]; a view."""
    grouped: Tensor = x.unflatten(1, (kernels, x.shape[1] // kernels))  # type: ignore[no-untyped-call]
    return grouped


def _over_group(values: Tensor) -> Tensor:
    """[B, K, group, H, W] -> [B, K, H, W]: the sum over each group."""
    return values.squeeze(2) if values.shape[2] == 1 else values.sum(2)


def _per_tap(x: Tensor, grid: Tensor, stride: int, taps: int, offset: bool) -> Tensor:
    """Two maps of memory beside the result: the padded picture and one upsampled tap. Sums are in the dtype of ``x``."""
    height, width = x.shape[2:]
    planes = grid.chunk(taps + offset, 1)
    kernels = planes[0].shape[1]
    x = x.contiguous(memory_format=torch.channels_last)
    padded = _grouped(F.pad(x, (1, 1, 1, 1)) if taps == 9 else x, kernels)
    total = None
    for tap in range(taps):
        row, column = _shift(tap, taps)
        source = padded[..., row : row + height, column : column + width]
        weight = _blend(planes[tap], stride, x.shape).unsqueeze(2)
        total = weight * source if total is None else total.addcmul_(weight, source)
    assert total is not None
    if offset:
        total += _blend(planes[taps], stride, x.shape).unsqueeze(2)
    return total.flatten(1, 2)


def _per_tap_backward(
    dy: Tensor, x: Tensor, grid: Tensor, stride: int, taps: int, offset: bool
) -> tuple[Tensor, Tensor]:
    height, width = x.shape[2:]
    planes = grid.chunk(taps + offset, 1)
    cells = planes[0].shape
    border = 1 if taps == 9 else 0
    padded = _grouped(F.pad(x, (border,) * 4), cells[1])
    slope = _grouped(dy, cells[1])
    dx = torch.zeros_like(padded)
    dplanes = []
    for tap in range(taps):
        row, column = _shift(tap, taps)
        place = (..., slice(row, row + height), slice(column, column + width))
        dx[place].addcmul_(_blend(planes[tap], stride, x.shape).unsqueeze(2), slope)
        dplanes.append(_blend_adjoint(_over_group(slope * padded[place]), stride, cells))
    if offset:
        dplanes.append(_blend_adjoint(_over_group(slope), stride, cells))
    inner = dx[..., border : border + height, border : border + width]
    return inner.flatten(1, 2), torch.cat(dplanes, 1)
