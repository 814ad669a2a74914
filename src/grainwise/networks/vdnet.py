"""VDNet (VDN, Yue et al., NeurIPS 2019): a blind U-Net that tells the noise and how sure it is of it.

D-Net is the denoiser and all that runs on a picture. S-Net, the noise-variance network, takes part in training alone.
"""

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.networks.unet import SLOPE, UnetNetwork
from grainwise.primitives.attention import TanhAttention
from grainwise.primitives.slim_conv import SlimConv2d


class VDNet(UnetNetwork):
    """D-Net, static or slimmable: 4 levels, 2x2 means on the way down.

    At base 64 and ratio 1 it is the published network: 7,700,742 parameters, 564,288 MACs/px. The routing space of DDS-Net
    starts from base 32.

    The arguments are those of `UnetNetwork`.
    """

    levels, outputs, strided = 4, 6, False

    def initialise(self) -> None:
        """As its paper's code does."""
        initialise(self.unet)

    def start_at(self, variance: float) -> None:
        """Let every sub-network start with no noise and a mean of that variance: the last layer alone is changed.

        A short training then starts at the noisy picture. From its paper's first values the logarithm of the variance has a
        way to go, from 0 to ln(1e-6), whose gradients drown the others for thousands of steps.
        """
        last: Any = self.unet.last
        with torch.no_grad():
            last.weight.zero_()
            last.bias[:3].zero_()
            last.bias[3:].fill_(math.log(variance))

    def moments(self, x: Tensor, *at: object) -> tuple[Tensor, Tensor]:
        """Mean of the noise and logarithm of the variance of that mean, both [B, 3, H, W]."""
        mean, log_variance = self.predict(x, *at).chunk(2, 1)
        return mean, log_variance


class NoiseVarianceNet(nn.Module):
    """S-Net: what the noise's variance is distributed like, an inverse gamma distribution for each pixel and channel.

    Five 3x3 convolutions of 64 filters, no normalisation. 116,038 parameters. Never slimmed, never run on a picture.
    """

    def __init__(self, filters: int = 64) -> None:
        """Build it, initialised as its paper's code does."""
        super().__init__()
        widths = [3, filters, filters, filters, filters, 6]
        self.convs = nn.ModuleList(nn.Conv2d(c, d, 3, padding=1) for c, d in pairwise(widths))
        initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` [B, 3, H, W] -> the logarithms of alpha (shape) and beta (scale), both [B, 3, H, W]."""
        *first, last = self.convs
        for conv in first:
            x = F.leaky_relu(conv(x), SLOPE)
        log_alpha, log_beta = last(x).chunk(2, 1)
        return log_alpha, log_beta


def initialise(module: nn.Module) -> None:
    """Kaiming normal (fan in, gain of a ReLU) and zero biases, for convolutions alone; transposed ones and an attention
    head keep their own initialisation."""
    heads = {id(part) for head in module.modules() if isinstance(head, TanhAttention) for part in head.modules()}
    for part in module.modules():
        if isinstance(part, nn.Conv2d | SlimConv2d) and id(part) not in heads:
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                torch.nn.init.zeros_(part.bias)
