"""What the networks share whose stream runs at half resolution: its input, its least width, its fading at level 0."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from grainwise.networks.network import pad_to_multiple

SMALLEST_STREAM = 16
"""A narrower stream cannot carry the noise of a 2x2 block of RGB pixels (12 values): it stalls near 24.5 dB at sigma 25."""

FULL_EFFECT = 2 / 255
"""Below this noise level the residual fades out in proportion to the level: no network removes noise of a fraction of a step
without doing more harm, and a level of 0 must give back the picture."""

FULL_EFFECT_OF_LEVEL = 0.02
"""The same for levels that run from 0 to 1 (docs/decisions/0005): those of a JPEG of quality 98, or of a scale of 1.1."""


def to_half_resolution(x: Tensor, level: Tensor, *, multiple: int, dtype: torch.dtype) -> Tensor:
    """The first layer's input: 4 phases of each colour, centred (finer in bfloat16), then the level of noise or what else.

    Args:
        x: [B, C, H, W] in image units.
        level: [B, 1, 1, 1], or a map [B, 1, H, W], see `grainwise.networks.network.noise_map` and `level_map`.
        multiple: picture and map are mirrored up to multiples of this many pixels.
        dtype: of the result.

    Returns:
        [B, 4C + 1, H / 2, W / 2] of the mirrored H and W, channels_last.
    """
    fine = F.pixel_unshuffle((pad_to_multiple(x, multiple) - 0.5).to(dtype), 2)
    if level.shape[2:] != (1, 1):
        level = F.avg_pool2d(pad_to_multiple(level, multiple), 2)
    if torch.compiler.is_compiling():  # a captured graph says plainly what the copies below do in one pass less
        plane = level.to(dtype).expand(-1, -1, *fine.shape[2:])
        return torch.cat([fine, plane], 1).contiguous(memory_format=torch.channels_last)
    shape = (fine.shape[0], fine.shape[1] + 1, *fine.shape[2:])
    stream = torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
    stream[:, :-1] = fine
    stream[:, -1:] = level
    return stream


def without_residual(x: Tensor, phases: Tensor, level: Tensor, full_effect: float = FULL_EFFECT) -> Tensor:
    """``x`` [B, C, H, W] minus the residual in ``phases`` [B, 4C, H / 2, W / 2, or larger], which fades out with ``level``.

    Args:
        x: the picture.
        phases: its noise, or what else shall be gone.
        level: as in `to_half_resolution`.
        full_effect: below this level the residual fades.
    """
    height, width = x.shape[2:]
    residual = F.pixel_shuffle(phases, 2)[:, :, :height, :width]
    return x - residual.to(x.dtype) * (level / full_effect).clamp(max=1)


def least_tile(reductions: Sequence[int], widths: Sequence[Sequence[int]], values: int = 20_480) -> int:
    """Input pixels from which the input of every layer has more than ``values`` values at the narrowest plan."""
    return 1 + max(values * r * r // level[0] for r, level in zip(reductions, widths, strict=True))
