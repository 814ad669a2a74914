"""What networks share that know their degradation by a level alone (docs/decisions/0005)."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.network import Network, noise_map, refuse_sigma
from grainwise.primitives.channels import ChannelPlan


class LevelNetwork(Network):
    """A network that is told a level and nothing else; one for noise takes the level of ``sigma`` where none is given."""

    def extract(self, plan: ChannelPlan, *level: float | Tensor) -> nn.Module:
        """See `Network.extract`; with its kernels merged, the network needs to be told nothing."""
        plain = super().extract(plan, *level)
        if level:
            plain.facts = replace(self.facts, level_range=None, needs_sigma=False)  # type: ignore[assignment]
        return plain

    def told(self, sigma: Tensor, degradation: Tensor | None = None) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """See `Network.told`: a level, or sigma, never both."""
        at, named = super().told(sigma, degradation)
        return at, {} if at else named

    def arguments(
        self, x: Tensor, at: tuple[Any, ...], sigma: Tensor | None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """(what layers without a level take, what layers with one take), checked.

        Raises:
            InputError: neither sigma nor a level is given, or both, or one that does not fit ``x``.
        """
        if not self.facts.needs_sigma:
            refuse_sigma(sigma)
        given = any(not isinstance(part, ChannelPlan) for part in at)
        if given and sigma is not None:
            raise InputError("this network takes its level from sigma; give sigma or a level, not both")
        if self.facts.needs_sigma and not given:
            noise_map(sigma, x)
        conditioned = self.conditioned(x, at, sigma)
        return tuple(part for part in conditioned if isinstance(part, ChannelPlan)), conditioned
