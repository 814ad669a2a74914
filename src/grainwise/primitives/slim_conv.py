"""Slimmable convolutions: one weight, sliced by a channel plan that is an argument of every call.

Shape letters: B batch, C input channels and D output channels at the plan, H and W size. A layer's weights are those of the
torch layer at full width, under the same parameter names, so that a state dict moves between the two.

Source: DDS-Net, section III-A (dynamic slimmable convolution: the first channels of a weight); the prefix per concatenated
part is what its decoder needs.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.primitives.channels import ChannelDim, ChannelPlan, Channels, Runs

Layout = ChannelDim | int | Channels


def take_channels(tensor: Tensor, runs: Runs, dim: int) -> Tensor:
    """The channels of ``tensor`` that ``runs`` keeps along ``dim``; a view where there is one run."""
    if len(runs) == 1:
        start, length = runs[0]
        return tensor if length == tensor.shape[dim] else tensor.narrow(dim, start, length)
    if sum(length for _, length in runs) == tensor.shape[dim]:
        return tensor
    return torch.cat([tensor.narrow(dim, start, length) for start, length in runs], dim)


def slim_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, inputs: Runs, outputs: Runs, stride: int = 1, padding: int = 0
) -> Tensor:
    """Convolve ``x`` [B, C, H, W] with the kept input and output channels of ``weight`` [widest D, widest C, k, k]."""
    weight = take_channels(take_channels(weight, outputs, 0), inputs, 1)
    bias = None if bias is None else take_channels(bias, outputs, 0)
    return F.conv2d(x, weight, bias, stride, padding)


def slim_depthwise_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, channels: Runs, stride: int = 1, padding: int = 0
) -> Tensor:
    """Convolve each channel of ``x`` [B, C, H, W] with its own kernel, a kept row of ``weight`` [widest C, 1, k, k]."""
    weight = take_channels(weight, channels, 0)
    bias = None if bias is None else take_channels(bias, channels, 0)
    return F.conv2d(x, weight, bias, stride, padding, groups=weight.shape[0])


def slim_conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, inputs: Runs, outputs: Runs, stride: int = 1
) -> Tensor:
    """Transposed convolution of ``x`` [B, C, H, W] with the kept channels of ``weight`` [widest C, widest D, k, k]."""
    weight = take_channels(take_channels(weight, inputs, 0), outputs, 1)
    bias = None if bias is None else take_channels(bias, outputs, 0)
    return F.conv_transpose2d(x, weight, bias, stride)


@dataclass(frozen=True, slots=True)
class ConvForm:
    """What a convolution does with a weight that it is handed: its kind, stride and padding.

    A dense weight is [D, C, k, k], a depthwise one [C, 1, k, k], a transposed one [C, D, k, k].
    """

    kind: Literal["dense", "depthwise", "transposed"]
    stride: int
    padding: int = 0

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None, *, samples: int = 1) -> Tensor:
        """Convolve ``x`` [B, C, H, W]; with ``samples`` > 1, the parts of [1, samples * C, H, W] by a kernel each.

        The kernels of several samples follow each other along the first index of ``weight``.
        """
        if self.kind == "transposed":
            return F.conv_transpose2d(x, weight, bias, self.stride, groups=samples)
        groups = weight.shape[0] if self.kind == "depthwise" else samples
        return F.conv2d(x, weight, bias, self.stride, self.padding, groups=groups)

    @property
    def output_axis(self) -> int:
        """The index of a weight that counts output channels."""
        return 1 if self.kind == "transposed" else 0

    def layer(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        """The torch layer of this form with contiguous copies of ``weight`` and ``bias``."""
        first, second, kernel = weight.shape[:3]
        layer: nn.Conv2d | nn.ConvTranspose2d
        has = bias is not None
        if self.kind == "transposed":
            layer = nn.ConvTranspose2d(first, second, kernel, self.stride, bias=has, device="meta")
        else:
            groups = first if self.kind == "depthwise" else 1
            layer = nn.Conv2d(
                second * groups, first, kernel, self.stride, self.padding, groups=groups, bias=has, device="meta"
            )
        # ``to_empty`` would do too, but imports SymPy on its first call, which takes a second or more
        layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().clone(memory_format=torch.contiguous_format))
        return layer


class SlimLayer(nn.Module, ABC):
    """A layer whose width is an argument: ``layer(x, plan)``; kinds that depend on more take it behind the plan.

    Args:
        reduction: how many network-input pixels, along one side, one output pixel of this layer stands for; the cost of
            the layer per input pixel follows from it.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, inputs: Layout, outputs: Layout, *, reduction: int) -> None:
        """Keep the two layouts."""
        super().__init__()
        if reduction < 1:
            raise InputError(
                f"reduction is the number of input pixels along a side of one output pixel, got {reduction}"
            )
        self.inputs, self.outputs, self.reduction = Channels.of(inputs), Channels.of(outputs), reduction

    @abstractmethod
    def extract(self, plan: ChannelPlan, *rest: Any) -> nn.Module:
        """The layer with its leading arguments bound: with all of them, the torch layer that equals this one.

        Args:
            plan: the channel plan.
            rest: what layers of a network may take behind the plan; a kind that takes less leaves it alone.
        """

    @abstractmethod
    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """Multiply-adds per input pixel of the network, in closed form; bias not counted."""

    def macs_per_picture(self, plan: ChannelPlan) -> float:
        """Multiply-adds of one call that do not grow with the picture: those of layers on pooled vectors."""
        return 0.0

    @property
    def input_reduction(self) -> int:
        """`reduction` of the layer's input instead of its output."""
        return self.reduction

    def extra_repr(self) -> str:
        """The shape of the full weight."""
        return f"{tuple(self.weight.shape)}, reduction={self.reduction}"

    def _check(self, x: Tensor, plan: ChannelPlan) -> None:
        if x.ndim != 4 or x.shape[1] != self.inputs.width(plan):
            raise InputError(
                f"the layer takes [B, {self.inputs.width(plan)}, H, W] at the plan {plan}, got {list(x.shape)}"
            )


class SlimKernel(SlimLayer):
    """A slimmable layer that is one convolution: a weight, a bias, and the form in which they are used."""

    form: ConvForm

    @abstractmethod
    def kept(self, tensor: Tensor, plan: ChannelPlan) -> Tensor:
        """The channels of ``tensor``, of the shape of the full weight, that ``plan`` keeps."""

    @property
    def input_reduction(self) -> int:
        """The reduction before the stride."""
        stride = self.form.stride
        return self.reduction * stride if self.form.kind == "transposed" else self.reduction // stride

    def kept_outputs(self, vector: Tensor, plan: ChannelPlan) -> Tensor:
        """The values of ``vector``, one for each output channel, that ``plan`` keeps."""
        return take_channels(vector, self.outputs.runs(plan), 0)

    def extract(self, plan: ChannelPlan, *rest: Any) -> nn.Module:
        """The torch layer that equals this one at ``plan``, with contiguous weights of its own; see `SlimLayer.extract`."""
        bias = None if self.bias is None else self.kept_outputs(self.bias, plan)
        return self.form.layer(self.kept(self.weight, plan), bias)

    def _adopt(self, reference: nn.Conv2d | nn.ConvTranspose2d) -> None:
        weight, bias = reference.weight, reference.bias
        assert isinstance(weight, nn.Parameter)
        self.weight = weight
        self.register_parameter("bias", bias if isinstance(bias, nn.Parameter) else None)


class SlimConv2d(SlimKernel):
    """A dense convolution, padded so that stride 1 keeps the size (odd kernels) and a stride equal to the kernel tiles it."""

    def __init__(
        self,
        inputs: Layout,
        outputs: Layout,
        kernel: int = 3,
        *,
        stride: int = 1,
        bias: bool = True,
        reduction: int = 1,
    ) -> None:
        """Make the full-width weight with torch's own initialisation."""
        super().__init__(inputs, outputs, reduction=reduction)
        self.kernel, self.stride, self.padding = kernel, stride, same_padding(kernel, stride)
        self.form = ConvForm("dense", stride, self.padding)
        self._adopt(nn.Conv2d(self.inputs.widest, self.outputs.widest, kernel, stride, self.padding, bias=bias))

    def forward(self, x: Tensor, plan: ChannelPlan) -> Tensor:
        """[B, C, H, W] -> [B, D, H / stride, W / stride]."""
        self._check(x, plan)
        return slim_conv2d(
            x,
            self.weight,
            self.bias,
            inputs=self.inputs.runs(plan),
            outputs=self.outputs.runs(plan),
            stride=self.stride,
            padding=self.padding,
        )

    def kept(self, tensor: Tensor, plan: ChannelPlan) -> Tensor:
        """[widest D, widest C, ...] -> [D, C, ...]."""
        return take_channels(take_channels(tensor, self.outputs.runs(plan), 0), self.inputs.runs(plan), 1)

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """k * k * C * D / reduction^2."""
        return self.kernel**2 * self.inputs.width(plan) * self.outputs.width(plan) / self.reduction**2


class SlimDepthwiseConv2d(SlimKernel):
    """A depthwise convolution: channel i of the output sees channel i of the input."""

    def __init__(
        self, channels: Layout, kernel: int = 3, *, stride: int = 1, bias: bool = True, reduction: int = 1
    ) -> None:
        """Make the full-width weight with torch's own initialisation."""
        super().__init__(channels, channels, reduction=reduction)
        self.kernel, self.stride, self.padding = kernel, stride, same_padding(kernel, stride)
        self.form = ConvForm("depthwise", stride, self.padding)
        width = self.inputs.widest
        self._adopt(nn.Conv2d(width, width, kernel, stride, self.padding, groups=width, bias=bias))

    def forward(self, x: Tensor, plan: ChannelPlan) -> Tensor:
        """[B, C, H, W] -> [B, C, H / stride, W / stride]."""
        self._check(x, plan)
        runs = self.inputs.runs(plan)
        return slim_depthwise_conv2d(x, self.weight, self.bias, channels=runs, stride=self.stride, padding=self.padding)

    def kept(self, tensor: Tensor, plan: ChannelPlan) -> Tensor:
        """[widest C, 1, ...] -> [C, 1, ...]."""
        return take_channels(tensor, self.inputs.runs(plan), 0)

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """k * k * C / reduction^2."""
        return self.kernel**2 * self.inputs.width(plan) / self.reduction**2


class SlimConvTranspose2d(SlimKernel):
    """A transposed convolution whose kernel equals its stride: every input pixel becomes a block of its own."""

    def __init__(
        self, inputs: Layout, outputs: Layout, stride: int = 2, *, bias: bool = True, reduction: int = 1
    ) -> None:
        """Make the full-width weight with torch's own initialisation."""
        super().__init__(inputs, outputs, reduction=reduction)
        self.stride, self.form = stride, ConvForm("transposed", stride)
        self._adopt(nn.ConvTranspose2d(self.inputs.widest, self.outputs.widest, stride, stride, bias=bias))

    def forward(self, x: Tensor, plan: ChannelPlan) -> Tensor:
        """[B, C, H, W] -> [B, D, stride * H, stride * W]."""
        self._check(x, plan)
        runs = {"inputs": self.inputs.runs(plan), "outputs": self.outputs.runs(plan)}
        return slim_conv_transpose2d(x, self.weight, self.bias, stride=self.stride, **runs)

    def kept(self, tensor: Tensor, plan: ChannelPlan) -> Tensor:
        """[widest C, widest D, ...] -> [C, D, ...]."""
        return take_channels(take_channels(tensor, self.inputs.runs(plan), 0), self.outputs.runs(plan), 1)

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """C * D / reduction^2: each output pixel has one tap."""
        return self.inputs.width(plan) * self.outputs.width(plan) / self.reduction**2


def same_padding(kernel: int, stride: int) -> int:
    """The padding on each side with which a size that the stride divides becomes size / stride.

    An odd kernel keeps its centre (any size works); an even one overlaps its neighbours alike on both sides, or tiles the
    picture where it equals the stride.

    Raises:
        InputError: an even kernel that differs from its stride by an odd number has no symmetric padding.
    """
    if kernel % 2 == 1:
        return 0 if kernel == stride else kernel // 2
    if kernel < stride or stride % 2 == 1:
        raise InputError(
            f"an even kernel needs an even stride of at most its size, got kernel {kernel} and stride {stride}"
        )
    return (kernel - stride) // 2


class MakesConv(Protocol):
    """Makes a dense convolution."""

    def __call__(
        self,
        inputs: Layout,
        outputs: Layout,
        kernel: int = 3,
        *,
        stride: int = 1,
        bias: bool = True,
        reduction: int = 1,
    ) -> nn.Module:
        """See `SlimConv2d`."""


class MakesDepthwise(Protocol):
    """Makes a depthwise convolution."""

    def __call__(
        self, channels: Layout, kernel: int = 3, *, stride: int = 1, bias: bool = True, reduction: int = 1
    ) -> nn.Module:
        """See `SlimDepthwiseConv2d`."""


class MakesTransposed(Protocol):
    """Makes a transposed convolution."""

    def __call__(
        self, inputs: Layout, outputs: Layout, stride: int = 2, *, bias: bool = True, reduction: int = 1
    ) -> nn.Module:
        """See `SlimConvTranspose2d`."""


@dataclass(frozen=True, kw_only=True)
class ConvSet:
    """The kinds of convolution that a network is built of. A network is written once, and the set is handed to it.

    The layers are called as ``layer(x, *at)``, where ``at`` is whatever the kind takes at run time: a plan for slimmable
    layers, a plan and a level for level-conditioned ones, nothing for the plain layers of an extracted network.

    Args:
        conv, depthwise, transposed: what makes each kind.
        takes_level: whether ``at`` ends in a level.
    """

    conv: MakesConv
    depthwise: MakesDepthwise
    transposed: MakesTransposed
    takes_level: bool = False


SLIMMABLE = ConvSet(conv=SlimConv2d, depthwise=SlimDepthwiseConv2d, transposed=SlimConvTranspose2d)


def extract(module: nn.Module, plan: ChannelPlan, *rest: Any) -> nn.Module:
    """A copy of ``module`` in which every slimmable layer is replaced by what its own ``extract(plan, *rest)`` gives.

    What is bound here is no longer an argument of the copy's calls. Other parameters and buffers (of a PReLU, for example)
    are copied, and stay shared where they were; modules that hold neither are not copied.
    """
    return _extract(module, {}, plan, *rest)


def _extract(module: nn.Module, copies: dict[int, Any], plan: ChannelPlan, *rest: Any) -> nn.Module:
    if isinstance(module, SlimLayer):
        return module.extract(plan, *rest)
    if not any(isinstance(part, SlimLayer) for part in module.modules()):
        return copy.deepcopy(module, copies) if module.state_dict() else module
    plain = object.__new__(type(module))
    own = {kind: copy.deepcopy(module.__dict__[kind], copies) for kind in ("_parameters", "_buffers")}
    plain.__dict__ = {**module.__dict__, **own, "_modules": {}}
    for name, child in module._modules.items():
        plain._modules[name] = None if child is None else _extract(child, copies, plan, *rest)
    return plain


def slim_layers(module: nn.Module) -> Sequence[SlimLayer]:
    """Every slimmable layer of ``module``, in order."""
    return [part for part in module.modules() if isinstance(part, SlimLayer)]
