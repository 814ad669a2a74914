"""Teaching one network every level at once: HyperRes (arXiv 2206.05970, section 3.1 and 3.2).

Each crop comes degraded at k levels; the network restores it at each of them with that level's kernels; the losses are summed
without weights. Kernels are merged once for each level and step. With several sub-networks a step it teaches a slimmable
network and its levels together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError, TrainingError
from grainwise.data.crops import Batch
from grainwise.networks.cfsnet import CoupledBlock, Gains
from grainwise.networks.network import Network
from grainwise.primitives.hyper_conv import ConditionedKernel
from grainwise.training.distances import get_distance
from grainwise.training.lessons import PictureLesson
from grainwise.training.supernet import SupernetMethod

Learns = Literal["all", "modulation"]


class LevelsMethod(nn.Module):
    """Maps a batch of several levels to the sum of their losses.

    Args:
        network: level-conditioned, or not: then it is one plain network for all levels of the batch.
        subnets: sub-networks a step and level; 1 teaches the widest alone, more the sandwich of `SupernetMethod`.
        distance: a name of `grainwise.training.distances.DISTANCES`.
        jitter, synergy: see `SupernetMethod`.
        learns: ``all``, or ``modulation``: only what enters with the level, everything else stays as it is. So AdaFM and
            CFSNet are taught: first all at level 0, then, from those weights, the modulation at level 1.
        seed: decides the random plans, together with the step.
    """

    def __init__(
        self,
        network: Network,
        *,
        subnets: int = 1,
        distance: str = "l1",
        jitter: int = 1,
        synergy: bool = False,
        learns: Learns = "all",
        seed: int = 0,
    ) -> None:
        """Choose what learns."""
        super().__init__()
        if learns not in ("all", "modulation"):
            raise InputError(f"learns is all or modulation, got {learns!r}")
        self.network = network
        self.distance = get_distance(distance)
        self.sandwich: SupernetMethod | None = None
        if subnets != 1:
            self.sandwich = SupernetMethod(
                network,
                subnets=subnets,
                lesson=PictureLesson(self.distance),
                jitter=jitter,
                synergy=synergy,
                seed=seed,
            )
        elif synergy:
            raise InputError("synergy needs at least 2 subnets: one teaches the other")
        if learns == "modulation":
            learning = set(modulation(network))
            if not learning:
                raise InputError("this network has nothing that enters with the level; teach all of it")
            for parameter in network.parameters():
                parameter.requires_grad_(parameter in learning)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of one step: ``loss`` is the sum over levels and sub-networks; ``level0``, ``level1`` ... for the log."""
        losses = {f"level{index}": self._taught(part, step) for index, part in enumerate(by_level(batch))}
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    @property
    def streams(self) -> int:
        """See `grainwise.training.seeds.Draws`."""
        return 0 if self.sandwich is None else self.sandwich.streams

    def _taught(self, part: Batch, step: int) -> Tensor:
        """The loss of the crops of one level."""
        if self.sandwich is not None:
            loss: Tensor = self.sandwich(part, step)["loss"]
            return loss
        at, told = self.network.told(part.sigma, part.degradation)
        return self.distance(self.network(part.noisy, self.network.space.widest, *at, **told), part.clean)


def by_level(batch: Batch) -> Iterator[Batch]:
    """The runs of crops of one level, each with its degradation as one number [].

    Raises:
        TrainingError: the batch does not say its levels.
    """
    if batch.degradation is None:
        raise TrainingError("teaching several levels needs batches that say them, such as those of LevelCrops")
    first = 0
    values, counts = torch.unique_consecutive(batch.degradation, return_counts=True)
    for value, count in zip(values, counts.tolist(), strict=True):
        rows = slice(first, first + count)
        yield Batch(batch.clean[rows], batch.noisy[rows], batch.sigma[rows], value)
        first += count


def modulation(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that enter with the level alone: at level 0 they change nothing."""
    found: list[nn.Parameter] = []
    for module in network.modules():
        if isinstance(module, ConditionedKernel):
            found += [p for name in module.modulation if (p := getattr(module, name)) is not None]
        elif isinstance(module, Gains):
            found += module.parameters()
        elif isinstance(module, CoupledBlock):
            found += [*module.tuning1.parameters(), *module.tuning2.parameters()]
    return found


@dataclass(frozen=True, kw_only=True)
class LevelsSettings:
    """See `LevelsMethod`."""

    subnets: int = 1
    distance: str = "l1"
    jitter: int = 1
    synergy: bool = False
    learns: Learns = "all"

    def build(self, network: Network, *, seed: int) -> LevelsMethod:
        """The method of these settings."""
        return LevelsMethod(network, seed=seed, **vars(self))
