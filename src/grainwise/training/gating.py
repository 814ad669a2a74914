"""Training a gate (DDS-Net, section III-C): which picture needs which route, at a budget that is a mean over pictures.

A label says for each training picture which route it needs, from the PSNR that the frozen sub-networks reach on it. The gate
learns the labels by cross-entropy, and a second loss pulls the mean cost of a batch to the budget (eq. 13 to 15). That pull is
soft; calibration afterwards shifts the logits by one number times the cost, so that the mean cost of held-out pictures meets
the budget.

Beyond the paper a gate can learn how many dB each route gains, and no label. The number of the calibration is then a price of
multiply-adds, and each picture takes the route whose gain less its price is greatest: the best that can be done with what the
gate sees, where a label forgets by how much a route is better. Where nothing can be seen, all pictures take the best route for
the budget, as a static sub-network does.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import BudgetError, InputError
from grainwise.data.crops import Batch
from grainwise.networks.gated import Gated, GatedNetwork
from grainwise.primitives.gate import choose_route, expected_cost
from grainwise.training.answers import Answers, answers_of, picture_psnr
from grainwise.training.loop import LoopConfig, Report, Source, train

Labels = Literal["extremes", "cheapest_within_beta", "gains"]

LEAST_SHARE = 0.01
"""A class of labels under this share makes a gate that ignores it."""

LABELS_BEFORE_WARNING = 500
"""Labels that must have been seen before a share is judged."""

FIXED_RATE = 5e-5
"""The paper's first learning rate; it falls by a tenth every epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """What a gate is trained for.

    Args:
        budget: C, mean multiply-adds per pixel, gate included.
        labels: "extremes": the first or the last route, by eq. 12; no label ever names a route between.
            "cheapest_within_beta": the cheapest route that loses at most ``beta`` against the last one.
            "gains": none; the logits learn the PSNR of each route in dB, less the mean of all (see the module). There is no
            complexity loss, so ``weight`` must be 0, and the gate is the same for every budget until it is calibrated.
        beta: PSNR in dB that makes a picture hard, for the labels that ask for it.
        weight: of the complexity loss.
        label_weight: of the gate loss; 0 is the paper's ablation without it (table V), which leaves the budget alone.
        per_picture: square the distance to the budget of every picture, not that of the batch's mean. It pulls every picture to
            the budget, against its label.
    """

    budget: float
    labels: Labels = "cheapest_within_beta"
    beta: float = 0.2
    weight: float = 1.0
    label_weight: float = 1.0
    per_picture: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained for.

        Raises:
            InputError: a budget that is not positive, unknown labels, a negative beta or weight, or gains with a complexity
                loss or without a gate loss.
        """
        if not self.budget > 0 or min(self.beta, self.weight, self.label_weight) < 0:
            raise InputError(f"budget is above 0, beta and the weights are at least 0, got {self}")
        if self.labels not in get_args(Labels):
            raise InputError(f"labels is one of {', '.join(get_args(Labels))}, got {self.labels!r}")
        if self.labels == "gains" and (self.weight or not self.label_weight):
            raise InputError(
                "logits that learn gains in dB are no shares whose expected cost could be pulled to a budget: set weight=0, "
                f"and label_weight above 0, got {self.weight:g} and {self.label_weight:g}"
            )


def gate_loop(*, epochs: int = 30, epoch: int = 1000, seed: int = 0) -> LoopConfig:
    """The paper's training: Adam, 5e-5 falling by a tenth every epoch, batches of 64 crops of 128 pixels.

    Args:
        epochs: the paper does not say how many.
        epoch: steps of one; neither does it say that.
        seed: of crops and noise.
    """
    return LoopConfig(
        steps=epochs * epoch,
        batch=64,
        crops=((0, 128),),
        learning_rate=FIXED_RATE,
        warmup=0,
        milestones=tuple(range(epoch, epochs * epoch, epoch)),
        factor=0.9,
        weight_decay=0.0,
        betas=(0.9, 0.999),
        clip=1e6,
        ema=0.0,
        precision="fp32",
        seed=seed,
    )


def extreme_labels(least: Tensor, greatest: Tensor, beta: float, routes: int) -> Tensor:
    """Eq. 12: the last route where the largest sub-network gains more than ``beta``, else the first; PSNRs and result [B]."""
    return torch.where(greatest - least > beta, routes - 1, 0)


def cheapest_labels(psnr: Tensor, beta: float) -> Tensor:
    """The first route whose PSNR is at least that of the last less ``beta``; ``psnr`` [B, E], cheapest first -> [B]."""
    enough = psnr >= psnr[:, -1:] - beta
    return enough.int().argmax(1)


def gain_loss(logits: Tensor, psnr: Tensor) -> Tensor:
    """Mean squared error of ``logits`` [B, E] to ``psnr`` [B, E], dB, both less their mean over the routes."""
    return F.mse_loss(logits - logits.mean(1, keepdim=True), psnr - psnr.mean(1, keepdim=True))


def complexity_loss(logits: Tensor, costs: Tensor, budget: float, scale: float, *, per_picture: bool = False) -> Tensor:
    """Eq. 14: ((mean of the expected costs - budget) / scale)^2, or the mean of the squares of every picture.

    Args:
        logits: [B, E].
        costs: of every route, [E], multiply-adds per pixel.
        budget: C.
        scale: T, the cost of the largest sub-network.
        per_picture: see `GateSettings`.
    """
    excess = (expected_cost(logits, costs) - budget) / scale
    return excess.square().mean() if per_picture else excess.mean().square()


class GateMethod(nn.Module):
    """Maps a batch, or what is known of one already, to the losses of a gate.

    Only the gate learns; the supernet is not part of this module.

    Args:
        gated: the supernet with its gate.
        settings: see `GateSettings`.
    """

    def __init__(self, gated: GatedNetwork, settings: GateSettings) -> None:
        """Hold the gate as the network that learns."""
        super().__init__()
        self.network = gated.gate
        self._gated = (gated,)
        self.settings = settings
        self.scale = gated.network.macs_per_pixel(gated.network.space.widest)
        self.seen = torch.zeros(len(gated.routes), dtype=torch.int64)
        self._warned = False

    def forward(self, batch: Batch | Answers, step: int) -> dict[str, Tensor]:
        """``loss`` is ``gate`` + weight * ``complexity``; ``cost`` is the batch's mean expected cost, for the log.

        Of gains there is no ``complexity``, and ``cost`` is that of the routes that gain most.
        """
        gated = self._gated[0]
        if isinstance(batch, Batch):
            ends = self.settings.labels == "extremes"
            gated.to(batch.noisy.device)
            batch = answers_of(gated, batch, ends_only=ends)
        settings = self.settings
        logits = gated.train().gate(batch.reading)
        costs = gated.costs(batch.pixels).to(logits.device)
        if settings.labels == "gains":
            losses = {"gate": gain_loss(logits, batch.psnr)}
            cost = costs[logits.argmax(1)].mean()
            return {"loss": settings.label_weight * losses["gate"], **losses, "cost": cost}
        labels = self.labels(batch.psnr)
        self._count(labels)
        losses = {
            "gate": F.cross_entropy(logits, labels),
            "complexity": complexity_loss(logits, costs, settings.budget, self.scale, per_picture=settings.per_picture),
        }
        total = settings.label_weight * losses["gate"] + settings.weight * losses["complexity"]
        return {"loss": total, **losses, "cost": expected_cost(logits.detach(), costs).mean()}

    def labels(self, psnr: Tensor) -> Tensor:
        """The route that each picture needs, [B], by the PSNR of every route, [B, E]."""
        if self.settings.labels == "extremes":
            return extreme_labels(psnr[:, 0], psnr[:, -1], self.settings.beta, psnr.shape[1])
        return cheapest_labels(psnr, self.settings.beta)

    def shares(self) -> Tensor:
        """The share of each class among all labels so far, [E]."""
        return self.seen / self.seen.sum().clamp(min=1)

    def _count(self, labels: Tensor) -> None:
        self.seen += labels.cpu().bincount(minlength=len(self.seen))
        if self._warned or self.seen.sum() < LABELS_BEFORE_WARNING:
            return
        used = [0, len(self.seen) - 1] if self.settings.labels == "extremes" else list(range(len(self.seen)))
        rare = [index for index in used if self.shares()[index] < LEAST_SHARE]
        if rare:
            self._warned = True
            shares = ", ".join(f"{100 * float(self.shares()[index]):.2f} %" for index in used)
            warnings.warn(
                f"of the gate's labels fewer than {100 * LEAST_SHARE:g} % name the routes {rare} (shares of "
                f"{used}: {shares}): the gate will not learn them. Change beta ({self.settings.beta} dB) or the routes.",
                stacklevel=2,
            )


def train_gate(
    gated: GatedNetwork,
    settings: GateSettings,
    config: LoopConfig,
    batches: Source,
    out: Path,
    *,
    resume: bool = False,
    report: Report | None = None,
) -> GateMethod:
    """Train the gate of ``gated`` in place, by the loop of all trainings; see `gate_loop` for the paper's settings.

    Args:
        gated: the supernet with its gate.
        settings: see `GateSettings`.
        config: of the loop.
        batches: pictures, which every route of the labels then restores at every step, as the paper does; or what is known
            of some, see `grainwise.training.answers.AnswerPool`.
        out: the folder of the run.
        resume: go on from the checkpoint in ``out``.
        report: see `grainwise.training.loop.train`.

    Raises:
        BudgetError: the budget is below the cheapest route.
        TrainingError: see `grainwise.training.loop.train`.
    """
    size = config.crop_size(0)
    least = float(gated.costs(size * size).min())
    if settings.budget < least:
        raise BudgetError(f"the cheapest route costs {least:.0f} MACs/px, got a budget of {settings.budget:g}")
    method = GateMethod(gated, settings)
    result = train(config, method, batches, out, resume=resume, report=report)
    gated.gate.load_state_dict(result.weights)
    gated.eval()
    return method


@dataclass(frozen=True, slots=True)
class Calibration:
    """What calibration found.

    Attributes:
        strength: the bias of a route is -strength * its cost / the largest cost.
        macs_per_pixel: mean cost of the held-out pictures, at most the budget.
        shares: of the held-out pictures on each route.
    """

    strength: float
    macs_per_pixel: float
    shares: tuple[float, ...]


def calibrate(gated: Gated, parts: Sequence[Batch], budget: float) -> Calibration:
    """Set the bias of ``gated`` so that the mean cost of held-out pictures is the greatest that ``budget`` allows.

    The mean cost falls as ``strength`` grows, so that bisection finds it.

    Args:
        gated: in evaluation mode; its bias is set.
        parts: held-out pictures of one size.
        budget: mean multiply-adds per pixel, gate included.

    Raises:
        InputError: no picture, or pictures of several sizes.
        BudgetError: the budget is below the cheapest route.
    """
    sizes = {part.noisy.shape[2:] for part in parts}
    if len(sizes) != 1:
        raise InputError(f"a gate is calibrated on pictures of one size, got {sorted(map(tuple, sizes))}")
    height, width = sizes.pop()
    gated.eval()
    with torch.inference_mode():
        logits = torch.cat([gated.logits(gated.tap(part.noisy.to(gated.bias.device))) for part in parts])
        costs = gated.costs(height * width)
    if budget < float(costs.min()):
        raise BudgetError(f"the cheapest route costs {float(costs.min()):.0f} MACs/px, got a budget of {budget:g}")
    relative = costs / costs.max()

    def chosen(strength: float) -> Tensor:
        return choose_route(logits, -strength * relative)

    def mean_cost(strength: float) -> float:
        return float(costs[chosen(strength)].double().mean())

    spread = float((logits.max() - logits.min()) / relative.diff().abs().clamp(min=1e-9).min()) + 1
    low, high = -spread, spread
    if mean_cost(low) <= budget:
        high = low
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if mean_cost(middle) <= budget else (middle, high)
    gated.bias.copy_(-high * relative)
    shares = chosen(high).bincount(minlength=len(costs)) / len(logits)
    return Calibration(high, mean_cost(high), tuple(float(share) for share in shares))


@dataclass(frozen=True, slots=True)
class GateScore:
    """What a gated network reaches: mean PSNR in dB (clipped, not rounded), mean cost, and the share of each route."""

    psnr: float
    macs_per_pixel: float
    shares: tuple[float, ...]


def score(gated: Gated, parts: Sequence[Batch]) -> GateScore:
    """Run a gated network on pictures; it must be in evaluation mode."""
    psnr, costs, routes = [], [], []
    with torch.inference_mode():
        for part in parts:
            batch = part.to(gated.bias.device)
            routed = gated.restore(batch.noisy)
            psnr.append(picture_psnr(routed.pictures, batch.clean))
            costs.append(routed.macs_per_pixel)
            routes.append(routed.routes)
    counts = torch.cat(routes).bincount(minlength=len(gated.routes))
    mean = float(torch.cat(psnr).mean())
    if not math.isfinite(mean):
        raise InputError("a restored picture is not finite; the weights are damaged")
    return GateScore(mean, float(torch.cat(costs).mean()), tuple(float(share) for share in counts / counts.sum()))
