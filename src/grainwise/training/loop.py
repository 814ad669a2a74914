"""One training loop, which knows no method: batches in, losses out, checkpoints written whole.

Everything random is a function of (seed, step), so a run that is killed at any moment goes on from its last checkpoint and,
on a CPU, ends with the very bits of the unbroken run.
"""

import importlib.util
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from grainwise.core.errors import Cancelled, InputError, TrainingError
from grainwise.core.files import whole_file
from grainwise.training.optimizers import Clipping, OptimizerName, optimizers_of, parts_of
from grainwise.training.seeds import Draws

CHECKPOINT = "checkpoint.pt"
FREE_TO_CHANGE = ("checkpoint_every", "validate_every", "device")
"""Settings of the loop that a run may go on without."""


class Lesson(Protocol):
    """What a step learns from: the loop moves it to its device and hands it to the method."""

    def to(self, device: torch.device) -> Self:
        """The same on ``device``."""


class Source(Protocol):
    """Makes what the steps learn from, such as `grainwise.data.crops.Batches`."""

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Lesson:
        """``count`` examples of ``size`` pixels a side; the same arguments give the same batch."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast.

    Args:
        steps: optimiser steps of the whole run.
        batch: crops a step, over all processes.
        crops: (step from which it holds, size of the crops); later ones may be larger.
        learning_rate: at its peak.
        warmup: steps of linear rise; then a cosine falls to ``final_rate`` times the peak.
        final_rate: the last learning rate as a share of the peak.
        period: steps that the cosine takes to fall; 0 for the rest of the run. A longer one is not finished by the run.
        milestones: steps at each of which the rate is multiplied by ``factor``, in place of the cosine.
        factor: see ``milestones``.
        optimizer: "adamw", or "muon", which learns faster per step and costs more (`grainwise.training.optimizers`).
        weight_decay: of all weights, decoupled.
        betas: of AdamW.
        clip: greatest norm of the gradient, after all passes of a step.
        clip_epoch: after each so many steps the greatest norm becomes their mean one, where that is less; 0 keeps it.
        ema: decay of the averaged weights; averaging starts softly, at (1 + step) / (10 + step).
        precision: "bf16" or "fp16" autocast, or "fp32".
        device: "auto" takes a GPU where there is one; "cpu" does not.
        seed: of weights, crops, noise and plans.
        checkpoint_every: steps between checkpoints.
        validate_every: steps between validations; 0 for none.
    """

    steps: int = 100_000
    batch: int = 16
    crops: tuple[tuple[int, int], ...] = ((0, 64),)
    learning_rate: float = 1e-3
    warmup: int = 500
    final_rate: float = 0.001
    period: int = 0
    milestones: tuple[int, ...] = ()
    factor: float = 0.5
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    clip_epoch: int = 0
    ema: float = 0.999
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    device: Literal["auto", "cpu"] = "auto"
    seed: int = 0
    checkpoint_every: int = 500
    validate_every: int = 2_000

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        positive = {"steps": self.steps, "batch": self.batch, "checkpoint_every": self.checkpoint_every}
        for name, value in positive.items():
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if not self.crops or self.crops[0][0] != 0 or list(self.crops) != sorted(self.crops):
            raise InputError(f"crops are (first step, size) in order, the first from step 0, got {self.crops}")
        if min(size for _, size in self.crops) < 1:
            raise InputError(f"crops are at least 1 pixel a side, got {self.crops}")
        if not 0 <= self.ema < 1 or self.learning_rate <= 0 or self.clip <= 0:
            raise InputError("ema lies in [0, 1), learning_rate and clip are positive")
        if self.period < 0 or list(self.milestones) != sorted(set(self.milestones)) or not 0 < self.factor <= 1:
            raise InputError("period is at least 0, milestones ascend and factor lies in (0, 1]")

    def rate(self, step: int) -> float:
        """The learning rate of ``step`` as a share of the peak: linear warm-up, then half a cosine or the milestones."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.milestones:
            return float(self.factor ** sum(milestone <= step for milestone in self.milestones))
        along = (step - self.warmup) / (self.period or max(1, self.steps - self.warmup))
        return self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))

    def crop_size(self, step: int) -> int:
        """The size of the crops at ``step``."""
        return max((first, size) for first, size in self.crops if first <= step)[1]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; ``seconds`` counts the training time of the whole run, broken or not."""

    step: int
    steps: int
    seconds: float
    seconds_left: float
    losses: dict[str, float]
    scores: dict[str, float] = field(default_factory=dict)


Report = Callable[[Progress], object]
Validate = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run leaves: the averaged weights, its length and what the last validation said."""

    weights: dict[str, Tensor]
    steps: int
    seconds: float
    scores: dict[str, float]


def check_libraries() -> None:
    """Raise `TrainingError` where a library that training needs is not installed."""
    for name in ("accelerate", "tensorboard"):
        if importlib.util.find_spec(name) is None:
            raise TrainingError(f"training needs {name}: pip install 'grainwise[train]'")


def train(
    config: LoopConfig,
    method: nn.Module,
    data: Source,
    out: Path,
    *,
    resume: bool = False,
    validate: Validate | None = None,
    report: Report | None = None,
) -> Result:
    """Train ``method.network`` and give its averaged weights.

    Args:
        config: see `LoopConfig`.
        method: a module that maps (batch, step) to losses, ``loss`` among them, and holds ``network``.
        data: makes the batches.
        out: the run's folder: its checkpoint, and TensorBoard's files in `tensorboard`.
        resume: go on from the checkpoint in ``out``.
        validate: maps the network with averaged weights to scores.
        report: called after each step with where the run stands; returning False stops the run after a checkpoint.

    Raises:
        TrainingError: nothing to resume, another run in the folder, a loss that is not finite, or a missing library.
        Cancelled: ``report`` returned False.
    """
    return _Run(config, method, data, out, validate, report).go(resume)


class _Run:
    """The state of one run."""

    def __init__(
        self,
        config: LoopConfig,
        method: nn.Module,
        data: Source,
        out: Path,
        validate: Validate | None,
        report: Report | None,
    ) -> None:
        check_libraries()
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from torch.utils.tensorboard import SummaryWriter

        self.config, self.method, self.data, self.out = config, method, data, out
        self.validate, self.report = validate, report
        cpu = config.device == "cpu" or not torch.cuda.is_available()
        if cpu and config.precision == "fp16":
            raise InputError("fp16 trains on a GPU only, and none is in use; take precision=bf16 or fp32")
        mixed = {"fp32": "no"}.get(config.precision, config.precision)
        AcceleratorState._reset_state()  # it is one per process, and an earlier run may have had another precision
        self.accelerator = Accelerator(cpu=cpu, mixed_precision=mixed)
        self.network: nn.Module = method.network  # type: ignore[assignment]
        self.optimizers = optimizers_of(
            method,
            config.optimizer,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        parts = parts_of(method)
        if len(parts) > 1 and config.precision == "fp16":
            raise InputError(
                "a method in parts, each with its own limit of the gradient, trains in bf16 or fp32, not in fp16"
            )
        self.clippings = [Clipping(part.parameters, part.clip or config.clip, config.clip_epoch) for part in parts]
        self.prepared, *self.prepared_optimizers = self.accelerator.prepare(method, *self.optimizers)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.writer = SummaryWriter(str(out / "tensorboard")) if self.accelerator.is_main_process else None
        self.step, self.seconds, self.scores = 0, 0.0, dict[str, float]()

    def go(self, resume: bool) -> Result:
        if resume:
            self._load()
        elif (self.out / CHECKPOINT).exists():
            raise TrainingError(f"{self.out} holds a run already; resume it, or choose another folder")
        try:
            with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as ahead:
                self._steps(ahead)
        finally:
            if self.writer is not None:
                self.writer.close()
        return Result(self.average, self.step, self.seconds, self.scores)

    def _steps(self, ahead: ThreadPoolExecutor) -> None:
        config = self.config
        upcoming: Future[Lesson] = ahead.submit(self._batch, self.step)
        while self.step < config.steps:
            start = time.perf_counter()
            batch = upcoming.result().to(self.accelerator.device)
            if self.step + 1 < config.steps:
                upcoming = ahead.submit(self._batch, self.step + 1)
            losses = self._learn(batch)
            self.step += 1
            self.seconds += time.perf_counter() - start
            last = self.step == config.steps
            validated = self.validate is not None and config.validate_every > 0
            if validated and (last or self.step % config.validate_every == 0):
                self._validate()
            if last or self.step % config.checkpoint_every == 0:
                self._save()
            self._tell(losses)

    def _batch(self, step: int) -> Lesson:
        """The share of this process of the batch of ``step``."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        count = self.config.batch // world + (rank < self.config.batch % world)
        return self.data.batch(self.config.crop_size(step), count, (self.config.seed, step, rank))

    def _learn(self, batch: Lesson) -> dict[str, Tensor]:
        config = self.config
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["share"] * config.learning_rate * config.rate(self.step)
        losses: dict[str, Tensor] = self.prepared(batch, self.step)
        if not torch.isfinite(losses["loss"]):
            raise TrainingError(f"the loss of step {self.step} is not finite; lower learning_rate, or resume before it")
        for optimizer in self.prepared_optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(losses["loss"])
        for clipping in self.clippings:
            if any(parameter.grad is not None for parameter in clipping.parameters):
                norm = self.accelerator.clip_grad_norm_(clipping.parameters, clipping.limit)
                if clipping.epoch:
                    clipping.see(float(norm))
        for optimizer in self.prepared_optimizers:
            optimizer.step()
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            live = self.network.state_dict()
            torch._foreach_lerp_(list(self.average.values()), [live[name] for name in self.average], 1 - decay)
        return losses

    def _validate(self) -> None:
        assert self.validate is not None
        live = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        self.network.eval()
        try:
            self.scores = self.validate(self.network)
        finally:
            self.network.load_state_dict(live)
            self.network.train()
        if self.writer is not None:
            for name, value in self.scores.items():
                self.writer.add_scalar(f"validation/{name}", value, self.step)

    def _tell(self, losses: dict[str, Tensor]) -> None:
        left = self.seconds / self.step * (self.config.steps - self.step)
        values = {name: float(value.detach()) for name, value in losses.items()}
        if self.writer is not None and self.step % 50 == 0:
            for name, value in values.items():
                self.writer.add_scalar(f"loss/{name}", value, self.step)
            self.writer.add_scalar("learning_rate", self.optimizers[0].param_groups[0]["lr"], self.step)
        told = Progress(self.step, self.config.steps, self.seconds, left, values, self.scores)
        if self.report is not None and self.report(told) is False:
            self._save()
            raise Cancelled(f"the run was stopped after step {self.step}; its checkpoint is in {self.out}")

    def _fingerprint(self) -> dict[str, Any]:
        """What must not change between a run and its continuation."""
        config = asdict(self.config)
        return {name: config[name] for name in config if name not in FREE_TO_CHANGE}

    @property
    def _streams(self) -> int:
        return self.method.streams if isinstance(self.method, Draws) else 0

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state = {
            "config": self._fingerprint(),
            "streams": self._streams,
            "method": self.method.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "clippings": [clipping.state for clipping in self.clippings],
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {},
            "step": self.step,
            "seconds": self.seconds,
            "scores": self.scores,
        }
        with whole_file(self.out / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def _load(self) -> None:
        path = self.out / CHECKPOINT
        if not path.is_file():
            raise TrainingError(f"{self.out} holds no checkpoint to resume; start the run without resuming")
        try:
            state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        except Exception as error:  # noqa: BLE001 -- torch raises many kinds for a damaged file
            raise TrainingError(f"the checkpoint {path} cannot be read ({error}); start the run anew") from None
        changed = {k: (v, self._fingerprint()[k]) for k, v in state["config"].items() if v != self._fingerprint()[k]}
        if changed:
            what = ", ".join(f"{name}: {old} then, {new} now" for name, (old, new) in changed.items())
            raise TrainingError(
                f"the run in {self.out} was started with other settings ({what}); resume it with its own"
            )
        if state.get("streams", 0) != self._streams:
            raise TrainingError(
                f"the run in {self.out} was started by a version that draws something else from its seed; go on with "
                "that version, or start it anew in another folder"
            )
        _upgrade(state, self.clippings)
        if len(state["clippings"]) != len(self.clippings) or len(state["optimizers"]) != len(self.optimizers):
            raise TrainingError(
                f"the run in {self.out} was started with another method, of {len(state['clippings'])} parts, not "
                f"{len(self.clippings)}; resume it with its own"
            )
        self.method.load_state_dict(state["method"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for clipping, kept in zip(self.clippings, state["clippings"], strict=True):
            clipping.state = kept
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.average = state["average"]
        self.step, self.seconds, self.scores = state["step"], state["seconds"], state["scores"]


def _upgrade(state: dict[str, Any], clippings: list[Clipping]) -> None:
    """Complete a checkpoint of the time when a method was one part, whose limit of the gradient was fixed."""
    if "clippings" in state:
        return
    state["clippings"] = [clipping.state for clipping in clippings]
    for saved in state["optimizers"]:
        for group in saved["param_groups"]:
            group["share"] = 1.0
