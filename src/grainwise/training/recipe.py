"""What a recipe is: the settings of one run, frozen dataclasses that the command line can change one by one."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from grainwise.data.corpus import Corpus
from grainwise.data.crops import Batches, NoisyCropSettings
from grainwise.networks.network import Network
from grainwise.training.loop import LoopConfig
from grainwise.training.stages import Stage, Training
from grainwise.training.supernet import SupernetSettings


class MakesBatches(Protocol):
    """Settings of a source of training batches: a frozen dataclass beside the class that it configures."""

    @property
    def label(self) -> str:
        """The degradation in a word, as protocols and cards write it."""

    @property
    def reductions(self) -> tuple[int, ...]:
        """The reductions of the corpus that it draws from."""

    @property
    def paired(self) -> bool:
        """Whether the corpus must hold pairs."""

    def build(self, corpus: Corpus) -> Batches:
        """The source, over the pictures of ``corpus``."""


class MakesMethod(Protocol):
    """Settings of a training method: a frozen dataclass beside the class that it configures."""

    def build(self, network: Network, *, seed: int) -> nn.Module:
        """A module that holds ``network`` and maps (batch, step) to losses; ``loss`` among them is learned from."""


GAUSSIAN_25 = NoisyCropSettings(sigma=(25 / 255, 25 / 255), shares=(1.0,), grey=0.0)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run.

    Args:
        name: of the recipe.
        data: folders of pictures, looked for in `GRAINWISE_DATA`, `data`, and `../shared/data`.
        network: name and configuration, see `grainwise.networks.registry`.
        hold_out: one picture in so many is not trained on, and validates.
        init: a weights file to start from, or empty.
        crops: what makes the batches.
        validation: what makes the held-out crops that score the network.
        method: what teaches the network.
        loop: how long and how fast.
        predictor_crops: noisy crops to fit a gain predictor to (`grainwise.training.routing`); 0 for none.
        stages: of the run, in their order; each but the first needs what an earlier one left.
    """

    name: str
    data: tuple[str, ...]
    network: str = "half_unet"
    config: dict[str, Any] = field(default_factory=dict)
    hold_out: int = 24
    init: str = ""
    crops: MakesBatches = field(default_factory=NoisyCropSettings)
    validation: MakesBatches = field(default_factory=lambda: GAUSSIAN_25)
    method: MakesMethod = field(default_factory=SupernetSettings)
    loop: LoopConfig = field(default_factory=LoopConfig)
    predictor_crops: int = 0
    stages: tuple[Stage, ...] = (Training(),)
