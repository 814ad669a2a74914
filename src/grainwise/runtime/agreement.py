"""Whether a network on a device, in its arithmetic, gives the pixels that float32 gives on the CPU.

Asked once whenever a restorer of pictures is made (of a gated network at its widest plan; a slider, whose user looks at each
result, is not asked): a driver, a library or a chip that computes something else must show before the first
picture, and not in it.
"""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.network import Network

TOLERANCE: Final = {torch.float32: 1 / 255, torch.float16: 1 / 255, torch.bfloat16: 4 / 255}
"""The greatest difference from float32 on the CPU that is allowed, in image units; times the greatest value of the result
where that lies above white. On CUDA convolutions in float32 round to the 11 bits of float16. The shipped weights
differ by 0.4 to 1.6 steps of 255 in bfloat16 on a CPU."""

_SIDE: Final = 64
_SIGMA: Final = 0.1


def needs_asking(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this is anything but float32 on the CPU."""
    return device.type != "cpu" or dtype != torch.float32


def difference(
    network: Network, placed: Callable[[float | None], nn.Module], device: torch.device
) -> tuple[float, float]:
    """The greatest difference of the widest plan from float32 on the CPU, on a small picture that is always the same.

    Args:
        network: all of it.
        placed: gives the extracted network of its widest plan on ``device``, merged at a level, 0 to 1, or at none.
        device: where that runs.

    Returns:
        The difference in image units, infinite where a value is not finite; and the greatest value of the result, at least 1.
    """
    level = None if network.facts.level_range is None else 0.5
    plain: Any = network.extract(network.space.widest, *(() if level is None else (level,))).float()
    picture, sigma = _picture(network.facts.channels), torch.full((1,), min(_SIGMA, network.facts.sigma_max or _SIGMA))
    there: Any = placed(level)
    with torch.inference_mode():
        true = plain(picture, **network.facts.given(sigma))
        found = there(picture.to(device), **network.facts.given(sigma.to(device))).float().cpu()
    greatest = float((found - true).abs().max())
    return greatest if greatest < float("inf") else float("inf"), max(1.0, float(true.abs().max()))


def refuse(name: str, device: torch.device, dtype: torch.dtype, found: tuple[float, float]) -> None:
    """Refuse a network that computes something else there.

    Args:
        name: of the weights.
        device, dtype: where it was placed.
        found: what `difference` gave.

    Raises:
        InputError: it differs by more than `TOLERANCE`; the message names both, and what to do.
    """
    if agrees(dtype, found):
        return
    kind = str(dtype).removeprefix("torch.")
    other = "use --device cpu --dtype float32" if dtype == torch.float32 else "use --dtype float32"
    raise InputError(
        f"{name} on {device} in {kind} differs from float32 on the CPU by {255 * found[0]:.3g} steps of 255, and "
        f"{255 * TOLERANCE[dtype] * found[1]:.3g} are allowed; {other}"
    )


def agrees(dtype: torch.dtype, found: tuple[float, float]) -> bool:
    """Whether what `difference` gave lies within `TOLERANCE`."""
    return found[0] <= TOLERANCE[dtype] * found[1]


def _picture(channels: int) -> Tensor:
    """Shades with noise, [1, C, 64, 64]."""
    generator = torch.Generator().manual_seed(0)
    shade = torch.linspace(0.1, 0.9, _SIDE)[None, :] * torch.linspace(1, 0.4, _SIDE)[:, None]
    noise = _SIGMA * torch.randn(1, channels, _SIDE, _SIDE, generator=generator)
    return (shade + noise).contiguous(memory_format=torch.channels_last)
