"""Teaching the routers of benchmarks/adaptive.py, from readings of pictures and the PSNR of every plan on each.

The pictures must be such as come: crops drawn without regard to texture, of the noise levels and kinds that are to be routed.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from adaptive_networks import DB, GainRouter, GateRouter, Reading
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.training.gating import cheapest_labels, complexity_loss


def fit_gain_router(
    reading: Reading,
    psnr: Tensor,
    plans: Sequence[str],
    *,
    reads: Sequence[str] = ("texture", "tap"),
    channels: int | None = None,
    hidden: int = 32,
    members: int = 3,
    steps: int = 1500,
    seed: int = 0,
) -> GainRouter:
    """A router that tells the PSNR of every plan: mean squared error, which falls to the conditional mean.

    Args:
        reading: of n pictures.
        psnr: of every plan on each, in dB, [n, plans].
        plans: as text, cheapest first.
        reads, hidden, members: see `GainRouter`.
        channels: of the first convolution that it reads; None for all of the reading.
        steps: of AdamW, over all pictures at once.
        seed: of the first weights.

    Raises:
        InputError: PSNRs that do not fit, fewer than two pictures, or what `GainRouter` refuses.
    """
    _check(reading, psnr, plans)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        read = reading.energy.shape[1] if channels is None else channels
        router = GainRouter(plans, read, reads=reads, hidden=hidden, members=members)
    inputs = router.inputs(reading)
    above_noise = psnr[:, :1] + 2 * DB * reading.sigma.log()[:, None]
    wanted = torch.cat([above_noise, psnr[:, 1:] - psnr[:, :1]], 1).float()
    router.mean.copy_(inputs.mean(0))
    router.spread.copy_(inputs.std(0).clamp(min=1e-3))
    router.middle.copy_(wanted.mean(0))
    router.scale[0], router.scale[1:] = wanted[:, 0].std().clamp(min=1e-3), wanted[:, 1:].std().clamp(min=1e-3)
    target = (wanted - router.middle) / router.scale

    def loss() -> Tensor:
        return torch.stack([F.mse_loss(told, target) for told in router.told(inputs)]).sum()

    _descend(router.members.parameters(), loss, steps=steps, rate=5e-3, decay=1e-2)
    return router.eval().requires_grad_(False)


def fit_gate_router(
    reading: Reading,
    psnr: Tensor,
    plans: Sequence[str],
    costs: Tensor,
    budget: float,
    *,
    beta: float = 0.2,
    steps: int = 3000,
    batch: int = 64,
    seed: int = 0,
) -> GateRouter:
    """DDS-Net's gate for one budget: labels, losses and head as in `grainwise.training.gating`.

    Args:
        reading, psnr, plans: see `fit_gain_router`.
        costs: of the plans, in multiply-adds per pixel, [plans].
        budget: mean multiply-adds per pixel.
        beta: dB that the cheapest sufficient plan may lose against the last one.
        steps: of AdamW.
        batch: pictures of a step.
        seed: of first weights and batches.

    Raises:
        InputError: see `fit_gain_router`.
    """
    _check(reading, psnr, plans)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        router = GateRouter(plans, reading.tap.shape[1]).train()
    labels = cheapest_labels(psnr, beta)
    draws = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        chosen = torch.randint(len(reading), (batch,), generator=draws)
        logits = router.gate(reading.tap[chosen])
        complexity = complexity_loss(logits, costs.float(), budget, float(costs.max()))
        return F.cross_entropy(logits, labels[chosen]) + complexity

    _descend(router.gate.parameters(), loss, steps=steps, rate=1e-3, decay=0.0)
    return router.eval().requires_grad_(False)


def _check(reading: Reading, psnr: Tensor, plans: Sequence[str]) -> None:
    if tuple(psnr.shape) != (len(reading), len(plans)) or len(reading) < 2:
        raise InputError(
            f"a router learns from the PSNR of every plan on at least 2 pictures, got {list(psnr.shape)} for "
            f"{len(reading)} pictures and {len(plans)} plans"
        )


def _descend(
    parameters: Iterable[nn.Parameter], loss: Callable[[], Tensor], *, steps: int, rate: float, decay: float
) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
