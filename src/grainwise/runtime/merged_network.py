"""An extracted network whose level moves: its kernels are merged anew, in place."""

import threading

import torch
from torch import nn

from grainwise.core.errors import InputError
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.network import Network
from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.hyper_conv import LevelConv


class MergedNetwork:
    """An extracted network whose kernels are merged anew for each level, in place; plain ones stay as they are.

    Args:
        network: with level-conditioned layers, or one that is told sigma.
        plan: its channel plan.
        device, dtype: of the arithmetic; kernels are merged in the dtype of the weights.

    Attributes:
        lock: to be held while the network of a level is used.

    Raises:
        InputError: the network knows no level at all.
    """

    def __init__(self, network: Network, plan: ChannelPlan, device: torch.device, dtype: torch.dtype) -> None:
        """Extract it twice: with its kernels merged, and with what they are merged from."""
        if network.facts.level_range is None and not network.facts.needs_sigma:
            raise InputError("this network takes no level, so there is nothing to slide")
        self.lock = threading.RLock()
        self._level = 0.0
        levels = () if network.facts.level_range is None else (self._level,)
        self.network = network.extract(plan, *levels).to(device, dtype).requires_grad_(False)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._pairs: list[tuple[LevelConv, nn.Module]] = []
        if levels:
            source = network.extract(plan).to(device)
            source.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._pairs = [
                (part, self.network.get_submodule(name))
                for name, part in source.named_modules()
                if isinstance(part, LevelConv)
            ]

    def at(self, level: float) -> nn.Module:
        """The network with the kernels of ``level``: the same object each time, valid until the next call."""
        if self._pairs and level != self._level:
            for part, layer in self._pairs:
                part.merge_into(layer, level)
            if isinstance(self.network, HalfUNet):
                self.network.merged_anew(level)
            self._level = level
        return self.network
