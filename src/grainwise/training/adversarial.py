"""The losses of DANet (Yue et al., ECCV 2020): a denoiser R, a noise generator G and one critic P of pairs.

A pair is (clean, noisy). The real one is (x, y); R makes the pair (R(y), y) and G the pair (x, G(x, z)). The critic rates real
pairs high and made pairs low, with a gradient penalty (WGAN-GP); R and G are each held to their pair by an L1 term.
All pictures are [B, 3, H, W]; the critic maps two of them to [B].
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from grainwise.core.errors import InputError

CriticFunction = Callable[[Tensor, Tensor], Tensor]

BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""The window in front of the generator's L1 term: what OpenCV takes as a Gaussian of 5 pixels without a given deviation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DualAdversarial:
    """The three losses of a step.

    Args:
        alpha: share of the generator's pair in the critic's loss; the denoiser's has the rest.
        penalty: weight of the gradient penalty.
        tau_restorer: weight of R's L1 term.
        tau_generator: weight of G's L1 term.
        critic_steps: steps of the critic for each step of R and G.
    """

    alpha: float = 0.5
    penalty: float = 10.0
    tau_restorer: float = 1000.0
    tau_generator: float = 10.0
    critic_steps: int = 3

    def __post_init__(self) -> None:
        """Refuse weights that make no game.

        Raises:
            InputError: alpha outside [0, 1], a negative weight, or no critic step.
        """
        if not 0 <= self.alpha <= 1 or min(self.penalty, self.tau_restorer, self.tau_generator) < 0:
            raise InputError(f"alpha lies in [0, 1], the other weights are at least 0, got {self}")
        if self.critic_steps < 1:
            raise InputError(f"critic_steps is at least 1, got {self.critic_steps}")

    def critic_loss(
        self,
        critic: CriticFunction,
        real: tuple[Tensor, Tensor],
        restored: Tensor,
        generated: Tensor,
        shares: tuple[Tensor, Tensor],
    ) -> Tensor:
        """What P learns from; R and G get no gradient.

        alpha (P(x, G(x)) - P(x, y) + GP) + (1 - alpha) (P(R(y), y) - P(x, y) + GP)

        Args:
            critic: P.
            real: (x, y).
            restored: R(y).
            generated: G(x, z).
            shares: where between real and made pair each gradient is taken, two draws of U(0, 1), each [B].
        """
        clean, noisy = real
        rated = critic(clean, noisy).mean()
        losses = []
        made = ((clean, generated.detach()), (restored.detach(), noisy))
        for weight, pair, share in zip((self.alpha, 1 - self.alpha), made, shares, strict=True):
            penalty = self.penalty * gradient_penalty(critic, real, pair, share)
            losses.append(weight * (critic(*pair).mean() - rated + penalty))
        return torch.stack(losses).sum()

    def restorer_loss(self, critic: CriticFunction, real: tuple[Tensor, Tensor], restored: Tensor) -> Tensor:
        """What R learns from: -(1 - alpha) P(R(y), y) + tau_restorer mean |R(y) - x|."""
        clean, noisy = real
        deceived = (1 - self.alpha) * critic(restored, noisy).mean()
        return self.tau_restorer * F.l1_loss(restored, clean) - deceived

    def generator_loss(self, critic: CriticFunction, real: tuple[Tensor, Tensor], generated: Tensor) -> Tensor:
        """What G learns from: -alpha P(x, G(x)) + tau_generator mean |blur(y - x) - blur(G(x) - x)|."""
        clean, noisy = real
        deceived = self.alpha * critic(clean, generated).mean()
        return self.tau_generator * F.l1_loss(blurred(generated - clean), blurred(noisy - clean)) - deceived


def gradient_penalty(
    critic: CriticFunction, real: tuple[Tensor, Tensor], made: tuple[Tensor, Tensor], share: Tensor
) -> Tensor:
    """mean (|gradient of P| - 1)^2 at a point between the two pairs (Gulrajani et al. 2017); over all six channels jointly.

    Args:
        critic: P.
        real, made: the pairs.
        share: of the real pair in the point, [B].
    """
    weight = share.view(-1, 1, 1, 1)
    point = [(weight * r + (1 - weight) * m).detach().requires_grad_() for r, m in zip(real, made, strict=True)]
    gradients = torch.autograd.grad(critic(point[0], point[1]).sum(), point, create_graph=True)
    squared = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0)
    return ((squared + 1e-12).sqrt() - 1).square().mean()


def blurred(x: Tensor) -> Tensor:
    """``x`` under the window `BLUR`, each channel alone; borders are mirrored without repeating the edge."""
    channels = x.shape[1]
    window = torch.tensor(BLUR, dtype=x.dtype, device=x.device)
    kernel = torch.outer(window, window).expand(channels, 1, len(BLUR), len(BLUR))
    return F.conv2d(F.pad(x, (len(BLUR) // 2,) * 4, mode="reflect"), kernel, groups=channels)
