"""Level-conditioned convolutions: the kernel is a polynomial of a level that is an argument of every call.

HyperRes (arXiv 2206.05970, eq. 2) makes every kernel of level c as k = c * w + b, kernel and bias alike. Convolution is linear,
so the same formula says what a level per sample and a level per pixel mean: (c * w + b)(x) = b(x) + c * w(x).

Shape letters: B batch, C input channels and D output channels at the plan, H and W size. A level has one of three forms:

- a number or a tensor []: the kernels are merged once, and the layer costs what a plain one does;
- [B], one for each sample: each sample has merged kernels of its own, in one grouped convolution (as fast as a plain one
  on a CPU, where convolving with both kernels takes twice as long; measured in LOG.md);
- [B, 1, H, W], one for each pixel of the *network's* input: every term is convolved, and the results are mixed at each
  output pixel with the mean level of the input pixels that it stands for. Twice the cost of a plain layer, exactly linear.

Other ways to condition a convolution are other terms of the same polynomial (`grainwise.primitives.modulated_conv`).
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.slim_conv import (
    ConvForm,
    ConvSet,
    SlimConv2d,
    SlimConvTranspose2d,
    SlimDepthwiseConv2d,
    SlimKernel,
)

Level = float | Tensor

PUBLISHED_SPREAD = 0.1 * math.sqrt(2)
"""Standard deviation of the paper's first slopes: Kaiming normal with fan-in 1, times 0.1."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The coefficients of a kernel as a polynomial of the level, the constant one first.

    Args:
        weights: each of the shape of the weight.
        biases: each [D], as many as the weights; empty where the layer has no bias.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]


def merged(coefficients: Sequence[Tensor], level: Level) -> Tensor:
    """The polynomial at ``level``, a number or [...] that broadcasts: c0 + level * c1 + level^2 * c2.

    Products and sums are rounded one by one, never fused, so that a slice of the result equals the result of slices.
    """
    total, power = coefficients[0], level
    for index, coefficient in enumerate(coefficients[1:]):
        if index:
            power = power * level
        total = total + power * coefficient
    return total


def conditioned_conv(x: Tensor, terms: Terms, level: Level, form: ConvForm, *, reduction: int = 1) -> Tensor:
    """Convolve ``x`` [B, C, H, W] with the kernels of ``level``.

    Args:
        x: the input.
        terms: the kernel as a polynomial.
        level: see the module; a map has the size of the network's input.
        form: what the convolution does.
        reduction: input pixels of the network along a side of one output pixel, for maps.

    Raises:
        InputError: the level has another shape or is not finite.
    """
    level = checked_level(level, x.shape[0])
    if isinstance(level, Tensor):
        level = level.to(terms.weights[0].dtype)
        if level.ndim == 1:
            return _by_sample(x, terms, level, form)
        if level.ndim == 4:
            return _by_pixel(x, terms, level, form, reduction)
    return form(x, merged(terms.weights, level), merged(terms.biases, level) if terms.biases else None)


def checked_level(level: Level, samples: int) -> Level:
    """``level`` as a number, [], [samples] or [samples, 1, H, W]; one sample's level [1] as [].

    Raises:
        InputError: another shape, or a number that is not finite.
    """
    if isinstance(level, Tensor):
        if level.ndim == 0:
            return level
        if level.ndim == 1 and level.shape[0] == samples:
            return level[0] if samples == 1 else level
        if level.ndim == 4 and level.shape[0] in (1, samples) and level.shape[1] == 1:
            return level
        raise InputError(
            f"a level is a number, [{samples}] (one a sample) or [{samples}, 1, H, W] (one a pixel), "
            f"got a tensor {list(level.shape)}"
        )
    if not isinstance(level, int | float) or not math.isfinite(level):
        raise InputError(f"a level is a finite number or a tensor, got {level!r}")
    return float(level)


def _by_sample(x: Tensor, terms: Terms, level: Tensor, form: ConvForm) -> Tensor:
    samples = x.shape[0]
    weight = merged(terms.weights, level.view(-1, *[1] * terms.weights[0].ndim)).flatten(0, 1)
    bias = merged(terms.biases, level[:, None]).flatten() if terms.biases else None
    y = form(x.reshape(1, -1, *x.shape[2:]), weight, bias, samples=samples)
    return y.view(samples, -1, *y.shape[2:])


def _by_pixel(x: Tensor, terms: Terms, level: Tensor, form: ConvForm, reduction: int) -> Tensor:
    biases = terms.biases or (None,) * len(terms.weights)
    parts = [form(x, weight, bias) for weight, bias in zip(terms.weights, biases, strict=True)]
    return merged(parts, level_at(level, parts[0].shape[2], parts[0].shape[3], reduction))


def level_at(level: Tensor, height: int, width: int, reduction: int) -> Tensor:
    """A map [B, 1, H, W] for an output of ``height`` x ``width``: means of ``reduction`` x ``reduction`` pixels.

    The network may have padded its input; the map is continued there by its last row and column.

    Raises:
        InputError: the map is larger than what the output stands for.
    """
    missing = (height * reduction - level.shape[2], width * reduction - level.shape[3])
    if min(missing) < 0:
        raise InputError(
            f"a level map has the size of the network's input, at most {height * reduction}x{width * reduction} here, "
            f"got {level.shape[2]}x{level.shape[3]}"
        )
    if max(missing) > 0:
        level = F.pad(level, (0, missing[1], 0, missing[0]), mode="replicate")
    return level if reduction == 1 else F.avg_pool2d(level, reduction)


class ConditionedKernel(SlimKernel):
    """A slimmable convolution whose kernel depends on a level: ``layer(x, plan, level)``.

    Attributes:
        modulation: names of the parameters that enter with the level alone; at level 0 they change nothing.
    """

    modulation: tuple[str, ...]

    @abstractmethod
    def terms(self, plan: ChannelPlan) -> Terms:
        """The kernel of ``plan`` as a polynomial of the level."""

    def forward(self, x: Tensor, plan: ChannelPlan, level: Level) -> Tensor:
        """The layer at ``plan`` and ``level``; ``x`` [B, C, H, W] has the input width of that plan."""
        self._check(x, plan)
        return conditioned_conv(x, self.terms(plan), level, self.form, reduction=self.reduction)

    def extract(self, plan: ChannelPlan, *rest: Any) -> nn.Module:
        """``extract(plan, level)`` is the torch layer of that one level, exactly; ``extract(plan)`` a `LevelConv`.

        Raises:
            InputError: the level is not one number.
        """
        cut = LevelConv(self.terms(plan), self.form, self.reduction)
        return cut.merged(rest[0]) if rest else cut


class LevelConv(nn.Module):
    """A level-conditioned convolution cut to one plan: ``layer(x, level)``; what ``extract(plan)`` gives.

    Args:
        terms: the kernel as a polynomial; copied.
        form: what the convolution does.
        reduction: see `conditioned_conv`.
    """

    def __init__(self, terms: Terms, form: ConvForm, reduction: int) -> None:
        """Copy the terms."""
        super().__init__()
        self.form, self.reduction = form, reduction
        self.weights = nn.ParameterList(
            [weight.detach().clone(memory_format=torch.contiguous_format) for weight in terms.weights]
        )
        self.biases = nn.ParameterList([bias.detach().clone() for bias in terms.biases])

    @property
    def terms(self) -> Terms:
        """The kernel as a polynomial of the level."""
        return Terms(tuple(self.weights), tuple(self.biases))

    def forward(self, x: Tensor, level: Level) -> Tensor:
        """[B, C, H, W] -> [B, D, H', W'], as the layer that it was cut from."""
        return conditioned_conv(x, self.terms, level, self.form, reduction=self.reduction)

    def merged(self, level: Level) -> nn.Module:
        """The torch layer of ``level``.

        Raises:
            InputError: the level is not one number.
        """
        level = single_level(level)
        bias = merged(tuple(self.biases), level) if self.biases else None
        return self.form.layer(merged(tuple(self.weights), level), bias)

    def merge_into(self, layer: nn.Module, level: float) -> None:
        """Overwrite the weights of ``layer``, made by `merged`, with those of another level; the same bits, no new memory.

        Args:
            layer: a torch layer of this kernel.
            level: the new level.
        """
        self._write(layer.weight, self.weights, level)
        if self.biases:
            self._write(layer.bias, self.biases, level)

    @staticmethod
    def _write(target: Any, coefficients: nn.ParameterList, level: float) -> None:  # noqa: ANN401 -- a parameter
        with torch.no_grad():
            if len(coefficients) == 2 and target.dtype == coefficients[0].dtype:
                torch.mul(coefficients[1], level, out=target.data).add_(coefficients[0])
            else:
                target.copy_(merged(tuple(coefficients), level))


def single_level(level: Level) -> Level:
    """``level`` as a number or a tensor [].

    Raises:
        InputError: it holds more than one number.
    """
    if isinstance(level, Tensor) and level.numel() != 1:
        raise InputError(
            f"kernels are merged for one level, got a tensor {list(level.shape)}; extract without a level instead, "
            "and give it with every call"
        )
    return checked_level(level.reshape(()) if isinstance(level, Tensor) else level, 1)


class HyperKernel(ConditionedKernel):
    """A kernel and a bias of HyperRes: a base and a slope each, and a curvature where ``order`` is 2.

    The base is the torch layer's weight and bias, under their names and with torch's initialisation; slope and curvature
    start at zero. At first the layer is therefore the plain one at every level, and weights of a plain network load as
    its base.

    Args:
        shape: the arguments of the slimmable layer of the same form.
        order: 1 for k = b + c w, as the paper has it, 2 for k = b + c w + c^2 v.
        options: the keyword arguments of that layer.
    """

    def __init__(self, *shape: Any, order: int = 1, **options: Any) -> None:
        """Build the base, and zeros."""
        super().__init__(*shape, **options)
        if order not in (1, 2):
            raise InputError(f"the order of a kernel in the level is 1 or 2, got {order!r}")
        self.order = order
        self.modulation = tuple(
            f"{kind}_{name}" for name in ("slope", "curvature")[:order] for kind in ("weight", "bias")
        )
        for name in ("slope", "curvature")[:order]:
            self.register_parameter(f"weight_{name}", nn.Parameter(torch.zeros_like(self.weight)))
            bias = None if self.bias is None else nn.Parameter(torch.zeros_like(self.bias))
            self.register_parameter(f"bias_{name}", bias)

    def terms(self, plan: ChannelPlan) -> Terms:
        """Base, slope and curvature, cut to ``plan``."""
        names = ("", "_slope", "_curvature")[: self.order + 1]
        weights = tuple(self.kept(getattr(self, f"weight{name}"), plan) for name in names)
        biases = [getattr(self, f"bias{name}") for name in names] if self.bias is not None else []
        return Terms(weights, tuple(self.kept_outputs(bias, plan) for bias in biases))

    @torch.no_grad()
    def reset_as_published(self) -> None:
        """Draw the slope from N(0, 0.141^2), kernel and bias alike, and set everything else to zero, as HyperRes starts.

        Its hyper-network is a linear layer of one input for each kernel (fan-in 1), started at Kaiming normal times 0.1
        with zero biases: the first kernels are proportional to the level, with no part that is independent of it.
        """
        for name, parameter in self.named_parameters(recurse=False):
            if name.endswith("_slope"):
                parameter.normal_(0, PUBLISHED_SPREAD)
            else:
                parameter.zero_()


class HyperConv2d(HyperKernel, SlimConv2d):  # type: ignore[misc]
    """A dense convolution that depends on the level; see `SlimConv2d` for its arguments."""


class HyperDepthwiseConv2d(HyperKernel, SlimDepthwiseConv2d):  # type: ignore[misc]
    """A depthwise convolution that depends on the level; see `SlimDepthwiseConv2d` for its arguments."""


class HyperConvTranspose2d(HyperKernel, SlimConvTranspose2d):  # type: ignore[misc]
    """A transposed convolution that depends on the level; see `SlimConvTranspose2d` for its arguments."""


HYPER = ConvSet(conv=HyperConv2d, depthwise=HyperDepthwiseConv2d, transposed=HyperConvTranspose2d, takes_level=True)
"""Kernels linear in the level, as in HyperRes."""

HYPER_QUADRATIC = ConvSet(
    conv=partial(HyperConv2d, order=2),
    depthwise=partial(HyperDepthwiseConv2d, order=2),
    transposed=partial(HyperConvTranspose2d, order=2),
    takes_level=True,
)
"""Kernels quadratic in the level."""
