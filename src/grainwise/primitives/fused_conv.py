"""Convolutions with what follows them, in one pass over memory, where the machine's library has it.

At the widths of a denoiser a ReLU or a sum costs a CPU as much as a tenth to a third of the convolution before it, because
both must read and write the whole activation. oneDNN does them while the values are still in registers. These functions use
that for plain `torch.nn.Conv2d` layers on a CPU in inference mode, and say the same in plain torch everywhere else
(training, slimmable layers, GPUs, export).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FUSED = hasattr(torch.ops.mkldnn, "_convolution_pointwise") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def conv_relu(conv: nn.Module, x: Tensor, *at: Any) -> Tensor:
    """relu(conv(x, *at)); ``x`` [B, C, H, W]."""
    if _can_fuse(conv, x):
        return _pointwise(conv, x, "relu")
    return F.relu_(conv(x, *at))


def conv_leaky_relu(conv: nn.Module, x: Tensor, slope: float, *at: Any) -> Tensor:
    """leaky_relu(conv(x, *at)); ``slope`` is the factor of negative values; ``x`` [B, C, H, W]."""
    if _can_fuse(conv, x):
        return _pointwise(conv, x, "leaky_relu", scalars=(slope,))
    return F.leaky_relu_(conv(x, *at), slope)


def conv_alone(conv: nn.Module, x: Tensor, *at: Any) -> Tensor:
    """conv(x, *at), by the machine's library also where torch would take its own slower kernel (1x1 on one thread)."""
    if _can_fuse(conv, x):
        return _pointwise(conv, x, "none")
    y: Tensor = conv(x, *at)
    return y


def conv_add(conv: nn.Module, x: Tensor, other: Tensor, *at: Any) -> Tensor:
    """other + conv(x, *at); ``x`` [B, C, H, W], ``other`` of the shape of the result."""
    if _can_fuse(conv, x) and other.dtype == x.dtype:
        return _pointwise(conv, x, "none", other)
    y: Tensor = conv(x, *at)
    return other + y


def _can_fuse(conv: nn.Module, x: Tensor) -> bool:
    return (
        _FUSED
        and type(conv) is nn.Conv2d
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.dtype == conv.weight.dtype
        and torch.is_inference_mode_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


def _pointwise(
    conv: nn.Module, x: Tensor, activation: str, other: Tensor | None = None, scalars: tuple[float, ...] = ()
) -> Tensor:
    shape = (conv.padding, conv.stride, conv.dilation, conv.groups)
    if other is None:
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, conv.weight, conv.bias, *shape, activation, list(scalars), ""
        )
    else:
        y = torch.ops.mkldnn._convolution_pointwise.binary(
            x, other, conv.weight, conv.bias, *shape, "add", 1.0, None, [], None
        )
    return y
