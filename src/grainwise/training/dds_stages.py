"""The second and the third stage of DDS-Net as stages of a recipe: progressive slimming, and the gate."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch

from grainwise.core.errors import TrainingError
from grainwise.data.crops import Batch, Batches
from grainwise.networks.checkpoint import Card, MeasuredPlan, save_gated
from grainwise.networks.gated import GatedNetwork
from grainwise.networks.ratios import RatioNetwork
from grainwise.networks.routes import Route, RoutingSpace
from grainwise.training.answers import AnswerPool, answer_pool
from grainwise.training.gating import Calibration, GateSettings, Labels, calibrate, gate_loop, score, train_gate
from grainwise.training.loop import CHECKPOINT, LoopConfig, Progress, Source
from grainwise.training.slimming import (
    ROUTES,
    STATE,
    SlimmingConfig,
    SlimmingProgress,
    measured_latency,
    slim,
)
from grainwise.training.stages import Run, Told

GATED = "gated.safetensors"
POOL = "answers.safetensors"
GATE_SEED = 2**31 + 4
"""The gate's pictures are others than those that the supernet learned from, at the same step of the same seed."""
CALIBRATION_SEED = 2**31 + 3
"""No step of a run draws with it, and the search for the routes did not."""


@dataclass(frozen=True, kw_only=True)
class SlimStage:
    """Stage 2: the routing space of the supernet, `ROUTES`; see `grainwise.training.slimming.slim`.

    Args:
        search: how it goes.
        crops: held-out crops that judge the sub-networks.
        size: of these, in pixels.
        timed_size: side in pixels of the picture on which the seconds of each route are measured.
    """

    name: ClassVar[str] = "slim"
    processes: ClassVar[int | None] = 1
    reads: ClassVar[tuple[str, ...]] = ("data", "network", "config", "hold_out", "validation")
    free: ClassVar[tuple[str, ...]] = ()
    supernet: ClassVar[str] = "supernet"

    search: SlimmingConfig = field(default_factory=SlimmingConfig)
    crops: int = 48
    size: int = 64
    timed_size: int = 256

    def results(self, folder: Path) -> tuple[Path, ...]:
        """See `grainwise.training.stages.Stage.results`."""
        return (folder / ROUTES,)

    def started(self, folder: Path) -> bool:
        """See `grainwise.training.stages.Stage.started`."""
        return (folder / STATE).exists()

    def go(self, run: Run, folder: Path, *, resume: bool) -> None:
        """See `grainwise.training.stages.Stage.go`."""
        network = run.trained(self.supernet).network
        judge = run.held_out(size=self.size, count=self.crops)

        def report(told: SlimmingProgress) -> object:
            words = f"{told.routes} routes, {told.trials} trials, {told.psnr:.2f} dB"
            return run.tell(
                Told(
                    stage=self.name,
                    done=round(1000 * told.share),
                    total=1000,
                    words=words,
                    seconds_left=told.seconds_left,
                )
            )

        latency = measured_latency(network, size=self.timed_size)
        run.begin(self)
        space = slim(network, judge, self.search, folder, latency=latency, resume=resume, report=report)
        first, last = space.routes[0], space.routes[-1]
        line = f"{len(space.routes)} routes, from {_words(first)} to {_words(last)}, {len(space.pareto())} on the front"
        run.tell(Told(stage=self.name, done=1000, total=1000, words="done", line=f"{self.name}: {line}"))


@dataclass(frozen=True)
class OfItsOwn:
    """The batches of a stage that follows another one with the same seed: drawn by `GATE_SEED` too."""

    batches: Batches

    def check(self, size: int) -> None:
        """See `grainwise.data.crops.Batches.check`."""
        self.batches.check(size)

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        """See `grainwise.training.loop.Source.batch`."""
        return self.batches.batch(size, count, (GATE_SEED, *seed))


@dataclass(frozen=True, kw_only=True)
class GateStage:
    """Stage 3: a gate for every budget, `GATED` in a folder named after it; see `grainwise.training.gating`.

    Args:
        budgets: mean multiply-adds per pixel, gate included; the paper has one gate for each.
        routes: plans of the routing space to choose among at most.
        labels, beta, weight, label_weight, per_picture: see `GateSettings`.
        pool: pictures that every route restores once, before the training; it then draws from these. 0 restores new ones at
            every step, as the paper does.
        loop: of each gate.
        calibration: held-out pictures, of the size of the last crops, on which the mean cost is made to meet the budget.
    """

    name: ClassVar[str] = "gate"
    processes: ClassVar[int | None] = 1
    reads: ClassVar[tuple[str, ...]] = ("data", "network", "config", "hold_out", "crops", "validation")
    free: ClassVar[tuple[str, ...]] = ("budgets",)
    supernet: ClassVar[str] = "supernet"
    slimmed: ClassVar[str] = "slim"

    budgets: tuple[float, ...] = (20e3, 100e3, 200e3)
    routes: int = 12
    labels: Labels = "cheapest_within_beta"
    beta: float = 0.2
    weight: float = 1.0
    label_weight: float = 1.0
    per_picture: bool = False
    pool: int = 0
    loop: LoopConfig = field(default_factory=gate_loop)
    calibration: int = 64

    def results(self, folder: Path) -> tuple[Path, ...]:
        """See `grainwise.training.stages.Stage.results`."""
        return tuple(folder / budget_name(budget) / GATED for budget in self.budgets)

    def started(self, folder: Path) -> bool:
        """See `grainwise.training.stages.Stage.started`."""
        return folder.is_dir() and any(folder.iterdir())

    def settings(self, budget: float) -> GateSettings:
        """Those of the gate of one budget."""
        return GateSettings(
            budget=budget,
            labels=self.labels,
            beta=self.beta,
            weight=self.weight,
            label_weight=self.label_weight,
            per_picture=self.per_picture,
        )

    def go(self, run: Run, folder: Path, *, resume: bool) -> None:
        """See `grainwise.training.stages.Stage.go`."""
        if resume and not self.started(folder):
            raise TrainingError(f"{folder} holds no gate to resume; start it without resuming")
        weights = run.trained(self.supernet)
        network = weights.network
        if not isinstance(network, RatioNetwork):
            raise TrainingError(
                f"{type(network).__name__} has no tap for a gate to read; give a recipe of a dds network"
            )
        path = run.folder(self.slimmed) / ROUTES
        if not path.is_file():
            raise TrainingError(f"there is no {path}; run the stage {self.slimmed} before")
        routes = RoutingSpace.load(path, network).thinned(self.routes)
        if len(routes) < 2:
            raise TrainingError(
                f"no plan in {path} restores better than its cheapest one; train the supernet for longer"
            )
        fresh = run.recipe.crops.build(run.corpora[0])
        size = self.loop.crop_size(self.loop.steps)
        apart = self.held_out(run, size)
        run.begin(self)
        pool = self._pool(run, folder, self.gate(network, routes), fresh, size) if self.pool else None
        source: Source = OfItsOwn(fresh) if pool is None else pool
        for budget in self.budgets:
            place = folder / budget_name(budget)
            if (place / GATED).exists():
                continue
            gated = self.gate(network, routes)
            found = self.fit(run, gated, budget, source, apart, place)
            reached = score(gated, apart)
            card = self._card(run, weights.card, gated, routes, found, reached.psnr)
            save_gated(place / GATED, gated, card, budget)
            shares = ", ".join(f"{100 * share:.0f}" for share in found.shares)
            line = f"{budget_name(budget)}: {found.macs_per_pixel / 1e3:.1f}K MACs/px, {reached.psnr:.2f} dB, routes {shares} %"
            run.tell(Told(stage=self.name, done=1, total=1, words="done", line=f"{self.name} {line}"))

    def gate(self, network: RatioNetwork, routes: tuple[Route, ...]) -> GatedNetwork:
        """A new gate over the routes, the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.loop.seed)
            gated = GatedNetwork(network, [route.plan for route in routes])
        return gated.to(next(network.parameters()).device)

    def held_out(self, run: Run, size: int) -> list[Batch]:
        """Pictures for the calibration."""
        source = run.recipe.validation.build(run.corpora[1])
        count = self.calibration
        return [source.batch(size, min(8, count - at), (CALIBRATION_SEED, at)) for at in range(0, count, 8)]

    def fit(
        self, run: Run, gated: GatedNetwork, budget: float, source: Source, apart: list[Batch], place: Path
    ) -> Calibration:
        """Train the gate of one budget, from its last checkpoint where there is one, and calibrate it."""

        def report(told: Progress) -> object:
            words = f"{budget_name(budget)}, loss {told.losses['loss']:.4f}, cost {told.losses['cost'] / 1e3:.1f}K"
            return run.tell(Told.training(self.name, told, words))

        resume = (place / CHECKPOINT).exists()
        train_gate(gated, self.settings(budget), self.loop, source, place, resume=resume, report=report)
        return calibrate(gated, apart, budget)

    def _pool(self, run: Run, folder: Path, gated: GatedNetwork, fresh: Batches, size: int) -> AnswerPool:
        def report(done: int, total: int) -> object:
            return run.tell(Told(stage=self.name, done=done, total=total, words="every route on the pool"))

        return answer_pool(gated, fresh, folder / POOL, size=size, count=self.pool, report=report)

    def _card(
        self,
        run: Run,
        before: Card,
        gated: GatedNetwork,
        routes: tuple[Route, ...],
        found: Calibration,
        psnr: float,
    ) -> Card:
        by_plan = {route.plan: route for route in routes}
        label = f"slimming {run.recipe.validation.label}"
        plans = tuple(
            MeasuredPlan(str(plan), round(by_plan[plan].macs_per_pixel), {label: round(by_plan[plan].psnr, 3)})
            for plan in gated.routes
        )
        shares = ", ".join(f"{share:.3f}" for share in found.shares)
        learned = "learned gains in dB" if self.labels == "gains" else f"{self.labels} labels, beta {self.beta:g} dB"
        notes = (
            f"{learned}; calibrated on {self.calibration} held-out crops to "
            f"{found.macs_per_pixel:.0f} MACs/px, gate included, at {psnr:.3f} dB; shares of the routes {shares}"
        )
        return replace(before, recipe=f"{run.command} --stages all", commit=run.commit, plans=plans, notes=notes)


def budget_name(budget: float) -> str:
    """``20k`` for 20,000 MACs/px."""
    return f"{budget / 1e3:g}k"


def _words(route: Route) -> str:
    return f"{route.macs_per_pixel / 1e3:.1f}K MACs/px at {route.psnr:.2f} dB"
