"""DANet (Yue et al., ECCV 2020): a denoiser R and a noise generator G, taught against each other by one critic P.

R is the denoiser and all that runs on a picture; G and P take part in training alone and are never slimmed.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.networks.ratios import RatioDims
from grainwise.networks.unet import SLOPE, Unet, UnetNetwork
from grainwise.primitives.plain_conv import PLAIN

CRITIC_SIZE = 128
"""The only size of picture that the critic judges."""


class DANet(UnetNetwork):
    """R, static or slimmable: 5 levels, 4x4 convolutions of stride 2 on the way down.

    At base 32 and ratio 1 it is the published network: 9,153,571 parameters, 201,408 MACs/px.

    The arguments are those of `UnetNetwork`.
    """

    levels, outputs, strided = 5, 3, True


class NoiseGenerator(nn.Module):
    """G: makes a noisy picture of a clean one and a map of random numbers; static. 9,153,859 parameters at base 32."""

    def __init__(self, base: int = 32) -> None:
        """Build the U-Net of R with four input channels."""
        super().__init__()
        shape = {"base": base, "levels": DANet.levels, "inputs": 4, "outputs": 3}
        self.unet = Unet(PLAIN, RatioDims((1, 1)), strided=True, attention=False, **shape)

    def forward(self, clean: Tensor, latent: Tensor) -> Tensor:
        """``clean`` [B, 3, H, W] and ``latent`` [B, 1, H, W], standard normal -> a noisy picture; sizes divisible by 16."""
        noise: Tensor = self.unet(torch.cat([clean, latent], 1))
        return clean + noise


class Critic(nn.Module):
    """P: how real a pair of a clean and a noisy picture is (larger is more real). 44,703,745 parameters."""

    def __init__(self, base: int = 64) -> None:
        """Build six 4x4 convolutions and a linear layer; weights normal with standard deviation 0.02, biases zero."""
        super().__init__()
        widths = [6, *(base * 2**i for i in range(6))]
        layers: list[nn.Module] = []
        for index, (c, d) in enumerate(pairwise(widths)):
            stride, padding = (1, 0) if index == 5 else (2, 1)
            layers += [nn.Conv2d(c, d, 4, stride, padding, bias=False), nn.LeakyReLU(SLOPE)]
        self.features = nn.Sequential(*layers)
        self.judge = nn.Linear(widths[-1], 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.normal_(part.weight, std=0.02)
        nn.init.zeros_(self.judge.bias)

    def forward(self, clean: Tensor, noisy: Tensor) -> Tensor:
        """Both [B, 3, 128, 128] -> [B].

        Raises:
            InputError: pictures of another size.
        """
        if clean.shape[1:] != (3, CRITIC_SIZE, CRITIC_SIZE) or clean.shape != noisy.shape:
            raise InputError(
                f"the critic judges pairs [B, 3, {CRITIC_SIZE}, {CRITIC_SIZE}], got {list(clean.shape)} and "
                f"{list(noisy.shape)}; train with crops of {CRITIC_SIZE}"
            )
        judged: Tensor = self.judge(self.features(torch.cat([clean, noisy], 1)).flatten(1))
        return judged[:, 0]
