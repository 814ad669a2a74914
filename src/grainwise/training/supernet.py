"""Teaching a supernet: the sandwich rule with in-place synergy (DDS-Net, section III-A, eq. 6 and 7).

Each step runs the largest sub-network, n - 2 random ones and the smallest. The largest learns from the clean picture, the
random ones from the largest, the smallest from the mean of all the others; teachers are detached. How the random plans are
drawn is the sampler's business, and what a loss is the lesson's (`grainwise.training.samplers`, `grainwise.training.lessons`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.data.crops import Batch
from grainwise.networks.danet import DANet
from grainwise.networks.mprnet import MPRNet
from grainwise.networks.network import Network
from grainwise.networks.vdnet import VDNet
from grainwise.training.distances import get_distance, rounded_distance
from grainwise.training.distillation import Teaching, TeachingSettings
from grainwise.training.lessons import (
    Lesson,
    PictureLesson,
    Prediction,
    StagesLesson,
    Variance,
    VariationalLesson,
)
from grainwise.training.mixup import MixUp
from grainwise.training.optimizers import Part
from grainwise.training.samplers import SamplerName, sampler_of
from grainwise.training.seeds import PLANS, STREAMS, seed_of
from grainwise.training.teachers import Answer, Ensemble, Largest, features_of, tapped
from grainwise.training.variational import VariationalLoss

Pupils = Literal["narrowest", "smaller", "all"]


class SupernetMethod(nn.Module):
    """Maps a batch to the summed loss of n sub-networks.

    Args:
        network: the supernet.
        subnets: n of the sandwich rule, largest and smallest included; 1 trains the largest alone, as a static network is.
        lesson: the losses; by default the L1 distance of the restored picture.
        sampler: how the random plans are drawn, see `sampler_of`.
        jitter: of the plans that are stratified by cost.
        synergy: whether the smaller ones learn from the larger ones, or all from the clean picture.
        ensemble: whether the smallest learns from the mean of all others (in-place synergy), or from the largest alone like
            the random ones (in-place distillation).
        clean_share: weight of the clean picture beside a teacher's, 0 to 1; 0 is the paper.
        synergy_from: the first step with synergy; before it all learn from the clean picture, because a teacher that
            has learned nothing yet holds the others back.
        teaching: teachers from outside, who pull beside the clean picture (or the synergy).
        pupils: which sub-networks they teach: the "narrowest", all but the largest ("smaller"), or "all".
        mixup: mixes the pictures of a batch before it is learned from, or None.
        lesson_clip: greatest norm of the gradient of the lesson's own weights; 0 has one limit for all weights.
        seed: decides the random plans, together with the step.

    Raises:
        InputError: no sub-network, a share outside [0, 1], a negative limit, or unknown pupils.
        UnknownNameError: no such sampler.
    """

    def __init__(
        self,
        network: Network,
        *,
        subnets: int = 4,
        lesson: Lesson | None = None,
        sampler: SamplerName = "stratified",
        jitter: int = 1,
        synergy: bool = True,
        ensemble: bool = True,
        clean_share: float = 0.0,
        synergy_from: int = 0,
        teaching: Teaching | None = None,
        pupils: Pupils = "narrowest",
        mixup: MixUp | None = None,
        lesson_clip: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Prepare the sampler."""
        super().__init__()
        if subnets < 1:
            raise InputError(f"a step trains at least one sub-network, got subnets={subnets}")
        if lesson_clip < 0:
            raise InputError(f"the limit of a gradient is above 0, or 0 for none of its own, got {lesson_clip}")
        if not 0 <= clean_share <= 1:
            raise InputError(f"clean_share lies in [0, 1], got {clean_share}")
        if pupils not in get_args(Pupils):
            raise InputError(f"pupils is one of {', '.join(get_args(Pupils))}, got {pupils!r}")
        self.network, self.subnets, self.seed, self.mixup = network, subnets, seed, mixup
        self.synergy, self.ensemble, self.synergy_from = synergy, ensemble, synergy_from
        self.clean_share, self.lesson_clip = clean_share, lesson_clip
        self.lesson = PictureLesson(F.l1_loss) if lesson is None else lesson
        self.sampler = sampler_of(sampler, network, jitter) if subnets > 1 else None
        self.teaching, self.pupils = Teaching() if teaching is None else teaching, pupils

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of one step: ``loss`` is their sum; the others are for the log."""
        if self.mixup is not None:
            batch = self.mixup(batch, (self.seed, step))
        space = self.network.space
        plans = {"largest": space.widest}
        if self.sampler is not None:
            random = self.sampler.draw(self.subnets - 2, np.random.default_rng(seed_of(self.seed, step, PLANS)))
            plans |= {f"random{index}": plan for index, plan in enumerate(random)}
            plans["smallest"] = space.narrowest
        lessons = self.teaching.lessons(batch, step)
        losses: dict[str, Tensor] = {}
        seniors: list[Answer] = []
        for name, plan in plans.items():
            taught = self._taught(name)
            taps = self.teaching.taps if taught else ()
            with tapped(self.network, taps) as caught:
                prediction = self.lesson.predict(self.network, batch, plan)
            answer = Answer(self.lesson.picture(prediction, batch), features_of(caught, taps))
            losses[name] = self._loss(name, step, prediction, batch, seniors)
            if taught:
                losses[name] = torch.stack([losses[name], *lessons.pulls(answer, batch.clean)]).sum()
            seniors.append(answer)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    @property
    def streams(self) -> int:
        """See `grainwise.training.seeds.Draws`: two sub-networks are the ends, which are not drawn."""
        return STREAMS if self.subnets > 2 or self.mixup is not None else 0

    def parts(self) -> list[Part]:
        """All as one; or the lesson's own weights apart, where they have a limit of their own."""
        if not self.lesson_clip:
            return [Part(parameters=list(self.parameters()))]
        own = list(self.lesson.parameters())
        held = {id(parameter) for parameter in own}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in held]
        return [Part(parameters=rest), Part(parameters=own, clip=self.lesson_clip)]

    def _loss(self, name: str, step: int, prediction: Prediction, batch: Batch, seniors: list[Answer]) -> Tensor:
        """What the sub-network of that name learns from the clean picture and from its seniors."""
        if name == "largest":
            return self.lesson.teach(prediction, batch)
        if not self.synergy or step < self.synergy_from:
            return self.lesson.follow(prediction, batch.clean, batch)
        teacher = Ensemble() if name == "smallest" and self.ensemble else Largest()
        loss = self.lesson.imitate(prediction, teacher(batch, seniors).output, batch)
        if self.clean_share == 0:
            return loss
        return torch.lerp(loss, self.lesson.follow(prediction, batch.clean, batch), self.clean_share)

    def _taught(self, name: str) -> bool:
        """Whether the teachers from outside teach the sub-network of that name."""
        if not len(self.teaching.distillers):
            return False
        return self.pupils == "all" or name == "smallest" or (self.pupils == "smaller" and name != "largest")


@dataclass(frozen=True, kw_only=True)
class Sandwich:
    """Which sub-networks a step trains, and what they learn of each other: arguments of `SupernetMethod`."""

    subnets: int = 4
    sampler: SamplerName = "stratified"
    jitter: int = 1
    synergy: bool = True
    ensemble: bool = True
    clean_share: float = 0.0
    synergy_from: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """The arguments by name."""
        return {one.name: getattr(self, one.name) for one in fields(Sandwich)}


@dataclass(frozen=True, kw_only=True)
class SandwichSettings(Sandwich, ABC):
    """See `SupernetMethod`; what the sub-networks learn from is left to each kind."""

    @abstractmethod
    def lesson(self, seed: int) -> Lesson:
        """What the sub-networks learn from; ``seed`` decides its own first weights."""

    def more(self, network: Network, seed: int) -> dict[str, Any]:
        """What this kind hands to `SupernetMethod` besides: nothing."""
        return {}

    def build(self, network: Network, *, seed: int) -> SupernetMethod:
        """The method of these settings."""
        more = self.more(network, seed)
        return SupernetMethod(network, lesson=self.lesson(seed), seed=seed, **self.options, **more)


START_REFUSED = "method.start_at_input is of danet and mprnet, and this is a {}; leave it out"


@dataclass(frozen=True, kw_only=True)
class SupernetSettings(SandwichSettings, TeachingSettings):
    """One distance for the clean picture and for all teachers, who may come from outside; see `TeachingSettings`.

    Args:
        distance: a name of `grainwise.training.distances.DISTANCES`.
        rounding: epsilon of the distance to larger sub-networks, see `rounded_distance`; 0 is the paper. The edge distance
            stays as it is.
        pupils: see `SupernetMethod`.
        start_at_input: start at the noisy picture, with first values for short trainings; see `UnetNetwork.start_at_input`.
    """

    distance: str = "l1"
    rounding: float = 0.0
    pupils: Pupils = "narrowest"
    start_at_input: bool = False

    def build(self, network: Network, *, seed: int) -> SupernetMethod:
        """The method of these settings.

        Raises:
            InputError: the network has no such start, and shall have it.
        """
        if self.start_at_input:
            if not isinstance(network, DANet):
                raise InputError(START_REFUSED.format(type(network).__name__))
            network.start_at_input()
        return super().build(network, seed=seed)

    def lesson(self, seed: int) -> Lesson:
        """The distance of the restored picture.

        Raises:
            UnknownNameError: no such distance.
            InputError: a distance that cannot be rounded.
        """
        return PictureLesson(get_distance(self.distance), rounded_distance(self.distance, self.rounding))

    def more(self, network: Network, seed: int) -> dict[str, Any]:
        """Its outside teachers and whom they teach."""
        return {"teaching": self.teaching(network, distance=self.distance, seed=seed), "pupils": self.pupils}


@dataclass(frozen=True, kw_only=True)
class StagesSettings(SandwichSettings):
    """See `StagesLesson`: MPRNet's loss.

    Args:
        distance: a name of `grainwise.training.distances.DISTANCES`.
        rounding: see `SupernetSettings`.
        edges: weight of the edge distance.
        mixup: both parameters of MixUp's beta distribution, 0.6 in the published code; 0 mixes nothing.
        mixup_from: the first step that mixes.
        start_at_input: every stage starts at the noisy picture, for short trainings; see `MPRNet.start_at_input`.
    """

    distance: str = "charbonnier"
    rounding: float = 0.0
    edges: float = 0.0
    mixup: float = 0.0
    mixup_from: int = 0
    start_at_input: bool = False

    def build(self, network: Network, *, seed: int) -> SupernetMethod:
        """The method of these settings.

        Raises:
            InputError: the network is no MPRNet, and shall start at its input.
        """
        if self.start_at_input:
            if not isinstance(network, MPRNet):
                raise InputError(START_REFUSED.format(type(network).__name__))
            network.start_at_input()
        return super().build(network, seed=seed)

    def lesson(self, seed: int) -> Lesson:
        """The loss of three stages.

        Raises:
            UnknownNameError: no such distance.
            InputError: a distance that cannot be rounded.
        """
        return StagesLesson(get_distance(self.distance), self.edges, rounded_distance(self.distance, self.rounding))

    def more(self, network: Network, seed: int) -> dict[str, Any]:
        """MixUp, where it has a parameter."""
        return {"mixup": MixUp(self.mixup, self.mixup_from) if self.mixup else None}


@dataclass(frozen=True, kw_only=True)
class VariationalSettings(SandwichSettings):
    """See `VariationalLesson`: VDNet's loss.

    Args:
        eps2, radius: see `VariationalLoss`.
        variance: of the noise, "estimated" from the pair or "known".
        noise_clip: greatest norm of S-Net's gradient on its own, 1e3 in the published code; 0 has one limit for both nets.
        start_at_prior: start with no noise and the variance eps2 in place of the paper's first values, for short trainings;
            see `VDNet.start_at`.
        balanced: start with a signal of about the same size in narrow and in wide sub-networks; see `UnetNetwork.balance`.
    """

    eps2: float = 1e-6
    radius: int = 3
    variance: Variance = "estimated"
    noise_clip: float = 0.0
    start_at_prior: bool = False
    balanced: bool = False

    def build(self, network: Network, *, seed: int) -> SupernetMethod:
        """The method of these settings.

        Raises:
            InputError: the network is no VDNet, and shall start at the prior, or balanced.
        """
        if self.start_at_prior:
            if not isinstance(network, VDNet):
                raise InputError(f"a VDNet starts at the prior of its variance, got a {type(network).__name__}")
            network.start_at(self.eps2)
        if self.balanced:
            if not isinstance(network, VDNet):
                raise InputError(f"a VDNet starts balanced, got a {type(network).__name__}")
            network.balance()
        return super().build(network, seed=seed)

    def more(self, network: Network, seed: int) -> dict[str, Any]:
        """S-Net's own limit of the gradient."""
        return {"lesson_clip": self.noise_clip}

    def lesson(self, seed: int) -> Lesson:
        """The variational loss, with an S-Net."""
        return VariationalLesson(VariationalLoss(eps2=self.eps2, radius=self.radius), self.variance, seed=seed)
