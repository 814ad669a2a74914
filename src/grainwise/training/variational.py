"""The loss of VDNet (Yue et al., NeurIPS 2019): a negative lower bound of the likelihood of a noisy picture, three terms.

The posterior says, for each pixel and channel: the noise is Gaussian with mean e and variance of that mean m2 (D-Net), and the
variance of the noise is inverse gamma with shape alpha and scale beta (S-Net). The prior is centred on the clean picture with
variance eps2, and on a map of the noise's variance that a window of p x p pixels would have estimated.
All tensors are [B, C, H, W]; every term is a mean over all of their values.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from grainwise.core.errors import InputError

LOG_RANGE = (math.log(1e-8), math.log(1e4))
"""The logarithms of m2, alpha and beta are clamped to this."""

LEAST_VARIANCE = 1e-10
"""Floor of the variance map."""


def gaussian_likelihood(mean: Tensor, log_m2: Tensor, log_alpha: Tensor, log_beta: Tensor) -> Tensor:
    """The negative expected log-likelihood of the noisy picture.

    0.5 ln(2 pi) + 0.5 mean(ln beta - digamma(alpha) + (e^2 + m2) alpha / beta)
    """
    misfit = (mean.square() + log_m2.exp()) * (log_alpha - log_beta).exp()
    return 0.5 * math.log(2 * math.pi) + 0.5 * (log_beta - torch.digamma(log_alpha.exp()) + misfit).mean()


def gaussian_divergence(mean: Tensor, log_m2: Tensor, residual: Tensor, eps2: float) -> Tensor:
    """KL of N(e, m2) from N(y - x, eps2): 0.5 mean((e - (y - x))^2 / eps2 + m2 / eps2 - 1 - ln(m2 / eps2)); 0 where equal."""
    log_ratio = log_m2 - math.log(eps2)
    return 0.5 * ((mean - residual).square() / eps2 + log_ratio.exp() - 1 - log_ratio).mean()


def inverse_gamma_divergence(log_alpha: Tensor, log_beta: Tensor, alpha0: float, log_beta0: Tensor) -> Tensor:
    """KL of IG(alpha, beta) from IG(alpha0, beta0); 0 where equal.

    mean((alpha - alpha0) digamma(alpha) + lgamma(alpha0) - lgamma(alpha) + alpha0 (ln beta - ln beta0)
         + beta0 alpha / beta - alpha)
    """
    alpha = log_alpha.exp()
    shape = (alpha - alpha0) * torch.digamma(alpha) + math.lgamma(alpha0) - torch.lgamma(alpha)
    scale = alpha0 * (log_beta - log_beta0) + (log_beta0 + log_alpha - log_beta).exp() - alpha
    return (shape + scale).mean()


def estimated_variance(noisy: Tensor, clean: Tensor, radius: int = 3) -> Tensor:
    """The noise's variance map where only the pair is known (real noise): (y - x)^2, blurred.

    The window is a Gaussian of 2 radius + 1 pixels a side and standard deviation ``radius``; borders are mirrored without
    repeating the edge; at least `LEAST_VARIANCE`.

    Raises:
        InputError: a side of the picture is not longer than ``radius``.
    """
    if min(noisy.shape[2:]) <= radius:
        raise InputError(f"the variance is estimated on more than {radius} pixels a side, got {list(noisy.shape)}")
    channels = noisy.shape[1]
    window = gaussian_window(2 * radius + 1, float(radius)).to(noisy)
    squared = F.pad((noisy - clean).square(), (radius,) * 4, mode="reflect")
    rows = F.conv2d(squared, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    blurred = F.conv2d(rows, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return blurred.clamp(min=LEAST_VARIANCE)


def known_variance(sigma: Tensor, like: Tensor) -> Tensor:
    """The noise's variance map where the level was drawn (synthetic noise).

    Args:
        sigma: [B], or a map [B, 1, H, W], in image units.
        like: [B, C, H, W], of the shape that the map must have.
    """
    level = sigma.view(-1, 1, 1, 1) if sigma.ndim == 1 else sigma
    return level.square().clamp(min=LEAST_VARIANCE).expand_as(like)


def gaussian_window(size: int, deviation: float) -> Tensor:
    """[size], a sampled Gaussian of sum 1."""
    along = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    window = (-along.square() / (2 * deviation**2)).exp()
    return (window / window.sum()).float()


@dataclass(frozen=True, slots=True, kw_only=True)
class VariationalLoss:
    """The three terms, each with weight 1.

    Args:
        eps2: variance of the prior of the clean picture: 1e-6 for real noise, 5e-5 for synthetic noise. Towards 0 the loss
            becomes a squared error with weight 0.5 / eps2.
        radius: the window of the noise's prior has p = 2 radius + 1 pixels a side.
    """

    eps2: float = 1e-6
    radius: int = 3

    def __post_init__(self) -> None:
        """Refuse values that make no prior.

        Raises:
            InputError: eps2 is not positive, or radius is less than 1.
        """
        if not self.eps2 > 0 or self.radius < 1:
            raise InputError(f"eps2 is above 0 and radius at least 1, got {self.eps2} and {self.radius}")

    @property
    def alpha0(self) -> float:
        """Shape of the prior of the variance: p^2 / 2 - 1."""
        return (2 * self.radius + 1) ** 2 / 2 - 1

    def log_beta0(self, variance: Tensor) -> Tensor:
        """Logarithm of the scale of that prior, p^2 / 2 times the variance map."""
        return (variance * ((2 * self.radius + 1) ** 2 / 2)).log()

    def __call__(
        self, moments: tuple[Tensor, Tensor], shapes: tuple[Tensor, Tensor], residual: Tensor, variance: Tensor
    ) -> Tensor:
        """The loss, in float32 whatever the dtype of the outputs.

        Args:
            moments: D-Net's mean and log m2.
            shapes: S-Net's log alpha and log beta.
            residual: noisy minus clean picture, y - x.
            variance: the noise's variance map.
        """
        mean, log_m2 = moments[0].float(), clamped(moments[1])
        log_alpha, log_beta = clamped(shapes[0]), clamped(shapes[1])
        return (
            gaussian_likelihood(mean, log_m2, log_alpha, log_beta)
            + gaussian_divergence(mean, log_m2, residual, self.eps2)
            + inverse_gamma_divergence(log_alpha, log_beta, self.alpha0, self.log_beta0(variance))
        )

    def follow(self, moments: tuple[Tensor, Tensor], residual: Tensor) -> Tensor:
        """The term that knows a target picture, alone: what a sub-network learns from its teacher (DDS-Net)."""
        return gaussian_divergence(moments[0].float(), clamped(moments[1]), residual, self.eps2)


def clamped(logarithm: Tensor) -> Tensor:
    """An output clamped to `LOG_RANGE`, in float32."""
    return logarithm.float().clamp(*LOG_RANGE)
