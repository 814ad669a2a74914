"""DANet's game (Yue et al., ECCV 2020): a denoiser R and a noise generator G against one critic P, in the sandwich of DDS-Net.

P learns at every step, R and G at every third. R is the supernet: its largest sub-network plays against P, the others learn
from the larger ones by the distance that R has to the clean picture. G and P are never slimmed, and not kept.
"""

import os
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from grainwise.core.errors import InputError, TrainingError
from grainwise.data.crops import Batch
from grainwise.networks.danet import Critic, NoiseGenerator
from grainwise.networks.network import Network
from grainwise.training.adversarial import CriticFunction, DualAdversarial
from grainwise.training.lessons import PictureLesson, Prediction
from grainwise.training.optimizers import Part
from grainwise.training.seeds import GAME, STREAMS, seed_of
from grainwise.training.supernet import Sandwich, SupernetMethod

BETAS = (0.5, 0.9)
"""Of Adam, for G and P."""


def frozen(critic: nn.Module) -> CriticFunction:
    """``critic`` without gradients for its own weights."""
    weights = {name: value.detach() for name, value in critic.named_parameters()}

    def rate(clean: Tensor, noisy: Tensor) -> Tensor:
        judged: Tensor = functional_call(critic, weights, (clean, noisy))
        return judged

    return rate


class RestorerLesson(PictureLesson):
    """R's loss against the critic for the clean picture, and its L1 term alone for a teacher's.

    Args:
        losses: of the game.
        critic: P.
    """

    def __init__(self, losses: DualAdversarial, critic: nn.Module) -> None:
        """Keep both; the critic belongs to the method, not to the lesson."""
        super().__init__(lambda output, target: losses.tau_restorer * F.l1_loss(output, target))
        self.losses, self._critic = losses, (critic,)

    def teach(self, prediction: Prediction, batch: Batch) -> Tensor:
        """R's whole loss."""
        return self.losses.restorer_loss(frozen(self._critic[0]), (batch.clean, batch.noisy), prediction[0])


class GameMethod(SupernetMethod):
    """Maps a batch to the losses of the players whose turn it is.

    Players learn at once, R and G from the critic as it was before the step; the published code lets the critic go first.

    Args:
        network: R.
        losses: of the game.
        generator: G.
        critic: P.
        critic_rate: learning rate of P, times that of R and G.
        sandwich, seed: see `SupernetMethod`.
    """

    def __init__(
        self,
        network: Network,
        *,
        losses: DualAdversarial,
        generator: NoiseGenerator,
        critic: Critic,
        critic_rate: float = 2.0,
        sandwich: Sandwich,
        seed: int = 0,
    ) -> None:
        """Seat the players."""
        super().__init__(network, lesson=RestorerLesson(losses, critic), seed=seed, **sandwich.options)
        self.losses, self.generator, self.critic, self.critic_rate = losses, generator, critic, critic_rate

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """``critic`` at every step, the others at every ``critic_steps``-th; ``loss`` is their sum."""
        device, count = batch.clean.device, len(batch.clean)
        words = np.random.SeedSequence(seed_of(self.seed, step, GAME)).generate_state(1)
        random = torch.Generator().manual_seed(int(words[0]))
        latent = torch.randn((count, 1, *batch.clean.shape[2:]), generator=random).to(device)
        shares = (torch.rand(count, generator=random).to(device), torch.rand(count, generator=random).to(device))
        real = (batch.clean, batch.noisy)
        with torch.no_grad():
            restored = self.network(batch.noisy, self.network.space.widest)
            made = self.generator(batch.clean, latent)
        losses = {"critic": self.losses.critic_loss(self.critic, real, restored, made, shares)}
        if (step + 1) % self.losses.critic_steps == 0:
            taught = super().forward(batch, step)
            losses |= {name: value for name, value in taught.items() if name != "loss"}
            made = self.generator(batch.clean, latent)
            losses["generator"] = self.losses.generator_loss(frozen(self.critic), real, made)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    @property
    def streams(self) -> int:
        """See `grainwise.training.seeds.Draws`: every step of the game draws."""
        return STREAMS

    def parts(self) -> list[Part]:
        """R, G and P."""
        return [
            Part(parameters=list(self.network.parameters())),
            Part(parameters=list(self.generator.parameters()), betas=BETAS),
            Part(parameters=list(self.critic.parameters()), betas=BETAS, rate=self.critic_rate),
        ]


@dataclass(frozen=True, kw_only=True)
class GameSettings(Sandwich):
    """DANet's game; see `GameMethod` and `DualAdversarial`.

    Args:
        generator_base: base width of G.
        critic_base: base width of P.
    """

    alpha: float = 0.5
    penalty: float = 10.0
    tau_restorer: float = 1000.0
    tau_generator: float = 10.0
    critic_steps: int = 3
    critic_rate: float = 2.0
    generator_base: int = 32
    critic_base: int = 64

    def build(self, network: Network, *, seed: int) -> GameMethod:
        """The method of these settings; the first weights of G and P are the same for the same seed.

        Raises:
            InputError: the network is told a level, which G and P know nothing of.
            TrainingError: several processes: a player that waits leaves no gradient to exchange.
        """
        if network.facts.needs_sigma or network.facts.level_range is not None:
            raise InputError("the game is for blind networks; give danet, vdnet or mprnet")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise TrainingError("players take turns, which works in one process alone; leave out accelerate launch")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator, critic = NoiseGenerator(self.generator_base), Critic(self.critic_base)
        return GameMethod(
            network,
            losses=DualAdversarial(
                alpha=self.alpha,
                penalty=self.penalty,
                tau_restorer=self.tau_restorer,
                tau_generator=self.tau_generator,
                critic_steps=self.critic_steps,
            ),
            generator=generator,
            critic=critic,
            critic_rate=self.critic_rate,
            sandwich=self,
            seed=seed,
        )
