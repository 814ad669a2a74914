"""Scores of a network during and after its training, on crops of pictures that it does not train on."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from grainwise.data.crops import Batches
from grainwise.evaluation.metrics import ssim
from grainwise.networks.network import Network
from grainwise.primitives.channels import ChannelPlan

SEED = 2**31
"""No step of a run draws with it."""


class HeldOut:
    """Scores a network on the same held-out crops every time.

    Args:
        batches: what makes the crops.
        label: the degradation in a word.
        size: pixels along a side of a crop.
        count: number of crops.
    """

    def __init__(self, batches: Batches, label: str, *, size: int, count: int = 48) -> None:
        """Make the crops."""
        self.label = f"rgb-u8 held-out crops {label}"
        self.parts = [batches.batch(size, 8, (SEED, first)) for first in range(0, count, 8)]

    @property
    def identity(self) -> str:
        """The label and a digest of the crops."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part.noisy.contiguous().numpy().tobytes())
        return f"{self.label} {digest.hexdigest()[:16]}"

    def psnr(self, network: Network, plan: ChannelPlan) -> float:
        """Mean PSNR in dB of the sub-network at ``plan``, clipped and rounded to 8 bits."""
        scores = []
        for output, clean in self._restored(network, plan):
            error = (output - clean * 255).square().mean((1, 2, 3)).clamp(min=1e-10)
            scores.append(10 * torch.log10(255**2 / error))
        return float(torch.cat(scores).mean())

    def ssim(self, network: Network, plan: ChannelPlan) -> float:
        """Mean SSIM of the sub-network at ``plan``, clipped and rounded to 8 bits; see `grainwise.evaluation.metrics.ssim`."""
        scores = [
            ssim(one.permute(1, 2, 0).numpy() / 255, other.permute(1, 2, 0).numpy())
            for output, clean in self._restored(network, plan)
            for one, other in zip(output.cpu(), clean.cpu(), strict=True)
        ]
        return sum(scores) / len(scores)

    def _restored(self, network: Network, plan: ChannelPlan) -> Iterator[tuple[Tensor, Tensor]]:
        """(restored crops in steps of 8 bits, clean crops in [0, 1]) of each batch."""
        plain = network.extract(plan)
        device = next(network.parameters()).device
        with torch.inference_mode():
            for part in self.parts:
                batch = part.to(device)
                at, told = network.told(batch.sigma, batch.degradation)
                output = plain(batch.noisy, *at, **told)
                yield output.float().clamp(0, 1).mul(255).round(), batch.clean
