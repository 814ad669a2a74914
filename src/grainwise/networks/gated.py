"""A network with a gate: every picture takes the route that the gate chooses for it (DDS-Net, section III-C).

The tap, the first convolution, runs once at full width; the gate reads it, and the chosen sub-network goes on from its first
channels. A batch is grouped by route. Costs count the tap's unused channels, attention and gate too.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.network import check_picture
from grainwise.networks.ratios import RatioNetwork, reduced_width
from grainwise.primitives.attention import pooled
from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.gate import HIDDEN, GateHead, choose_route


@dataclass(frozen=True, slots=True)
class Routed:
    """A restored batch and the ways that it took.

    Attributes:
        pictures: [B, 3, H, W].
        routes: index of the route of each picture, [B] int64.
        macs_per_pixel: what each picture cost, gate included, [B].
    """

    pictures: Tensor
    routes: Tensor
    macs_per_pixel: Tensor


class Gated(nn.Module, ABC):
    """What the slimmable and the extracted form share."""

    routes: tuple[ChannelPlan, ...]
    gate: GateHead
    bias: Tensor
    """[E], added to the logits where a route is chosen; calibration sets it."""

    _fixed: Tensor
    _per_picture: Tensor

    @abstractmethod
    def tap(self, x: Tensor) -> Tensor:
        """The tap of ``x`` [B, 3, H, W] at full width."""

    @abstractmethod
    def reading(self, tap: Tensor) -> Tensor:
        """What the gate reads: [B, R], or the pooled tap [B, C] where the gate reduces it itself."""

    @abstractmethod
    def _finish(self, index: int, tap: Tensor, x: Tensor) -> Tensor:
        """The restored pictures of route ``index``, from the tap at full width."""

    def logits(self, tap: Tensor) -> Tensor:
        """The gate's logits [B, E], without the bias."""
        logits: Tensor = self.gate(self.reading(tap).float())
        return logits

    def costs(self, pixels: int) -> Tensor:
        """Multiply-adds per pixel of every route on a picture of ``pixels`` pixels, gate included: [E]."""
        return self._fixed + self._per_picture / pixels

    def finish(self, routes: Tensor, tap: Tensor, x: Tensor) -> Tensor:
        """The pictures restored, each on its own route [B]; those of one route run together."""
        out = torch.empty_like(x)
        for index in sorted(set(routes.tolist())):
            mine = routes == index
            out[mine] = self._finish(index, tap[mine], x[mine])
        return out

    def restore(self, x: Tensor) -> Routed:
        """Restore ``x`` [B, 3, H, W]; the gate must be in evaluation mode, or the batch decides for its pictures."""
        check_picture(x, 3)
        tap = self.tap(x)
        routes = choose_route(self.logits(tap), self.bias)
        costs = self.costs(x.shape[2] * x.shape[3])
        return Routed(self.finish(routes, tap, x), routes, costs[routes])

    def forward(self, x: Tensor) -> Tensor:
        """The restored pictures, [B, 3, H, W]."""
        return self.restore(x).pictures


class GatedNetwork(Gated):
    """A supernet, frozen, with a gate over some of its plans.

    Args:
        network: the supernet; it is frozen, attention head included (the paper's "disabled" read as not trained: without it
            the features would shift).
        routes: at least two plans, which are put in the order of their cost.
        hidden: hidden width of the gate.

    Raises:
        InputError: fewer than two routes, or one twice.
        PlanError: a route that the network does not have.
    """

    def __init__(self, network: RatioNetwork, routes: Sequence[ChannelPlan], *, hidden: int = HIDDEN) -> None:
        """Build the gate, untrained."""
        super().__init__()
        if len(set(routes)) != len(routes):
            raise InputError("the routes of a gate are plans that differ, got one twice")
        self.network = network.requires_grad_(False).eval()
        self.routes = tuple(sorted(routes, key=lambda plan: (network.macs_per_pixel(plan), plan)))
        channels = network.tap_channels
        own = channels if network.attention is None else None
        self.gate = GateHead(reduced_width(channels), len(routes), hidden=hidden, tap=own)
        full = network.tap_macs_per_pixel(network.space.widest)
        fixed = [network.macs_per_pixel(plan) + full - network.tap_macs_per_pixel(plan) for plan in self.routes]
        twice = 0 if own else channels * reduced_width(channels)  # the gate and the attention head both reduce the tap
        per_picture = [network.macs_per_picture(plan) + self.gate.macs + twice for plan in self.routes]
        self.register_buffer("_fixed", torch.tensor(fixed), persistent=False)
        self.register_buffer("_per_picture", torch.tensor(per_picture), persistent=False)
        self.register_buffer("bias", torch.zeros(len(routes)))

    def train(self, mode: bool = True) -> "GatedNetwork":
        """Only the gate trains."""
        super().train(mode)
        self.network.eval()
        return self

    def tap(self, x: Tensor) -> Tensor:
        """See `Gated.tap`."""
        return self.network.tap(x, self.network.space.widest)

    def reading(self, tap: Tensor) -> Tensor:
        """See `Gated.reading`."""
        head = self.network.attention
        reduced = pooled(tap) if head is None else head.reduced(tap, self.network.space.widest)
        return reduced.flatten(1)

    def _finish(self, index: int, tap: Tensor, x: Tensor) -> Tensor:
        plan = self.routes[index]
        return self.network.from_tap(tap[:, : self.network.tap_width(plan)], x, plan)

    def extract(self) -> "ExtractedGated":
        """The same with plain networks, one for each route; they share no weights."""
        return ExtractedGated(self)


class ExtractedGated(Gated):
    """A gate in front of extracted networks, for running."""

    def __init__(self, gated: GatedNetwork) -> None:
        """Extract every route, and the widest plan for its tap; copy the gate."""
        super().__init__()
        network = gated.network
        self.routes = gated.routes
        self.gate = copy.deepcopy(gated.gate).eval()
        self.bodies = nn.ModuleList(network.extract(plan) for plan in self.routes)
        widest = network.space.widest
        self.stem = self.bodies[-1] if self.routes[-1] == widest else network.extract(widest)
        self.widths = [network.tap_width(plan) for plan in self.routes]
        for name in ("_fixed", "_per_picture", "bias"):
            self.register_buffer(name, getattr(gated, name).clone(), persistent=name == "bias")

    def tap(self, x: Tensor) -> Tensor:
        """See `Gated.tap`."""
        assert isinstance(self.stem, RatioNetwork)
        return self.stem.tap(x)

    def reading(self, tap: Tensor) -> Tensor:
        """See `Gated.reading`."""
        assert isinstance(self.stem, RatioNetwork)
        head = self.stem.attention
        return (pooled(tap) if head is None else head.reduced(tap)).flatten(1)

    def _finish(self, index: int, tap: Tensor, x: Tensor) -> Tensor:
        body = self.bodies[index]
        assert isinstance(body, RatioNetwork)
        return body.from_tap(tap[:, : self.widths[index]], x)
