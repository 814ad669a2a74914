"""Progressive slimming (DDS-Net, section III-B, algorithm 1): from the largest sub-network to the smallest, greedily.

Each step tries every layer with one group of channels fewer, and keeps the trial that restores held-out pictures best. One pass
gives the routing space: a good plan at every cost between the two ends. A search is resumed from its state file, which is
written after every trial, and the resumed search ends with the same routes.
"""

import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch

from grainwise.core.errors import InputError, TrainingError
from grainwise.core.files import whole_file
from grainwise.networks.network import Network
from grainwise.networks.registry import name_of
from grainwise.networks.routes import Route, RoutingSpace
from grainwise.primitives.channels import ChannelDim, ChannelPlan

STATE = "slimming.json"
ROUTES = "routes.json"

Criterion = Literal["drop", "drop_per_mac", "drop_per_second"]
Latency = Callable[[ChannelPlan], float]
"""Seconds that a sub-network takes."""


class Judge(Protocol):
    """Scores sub-networks on the same held-out pictures every time, such as `grainwise.training.held_out.HeldOut`."""

    label: str

    @property
    def identity(self) -> str:
        """Tells these pictures from any others."""

    def psnr(self, network: Network, plan: ChannelPlan) -> float:
        """Mean PSNR in dB."""

    def ssim(self, network: Network, plan: ChannelPlan) -> float:
        """Mean SSIM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlimmingConfig:
    """How a search goes.

    Args:
        group: channels that a layer loses at a time; fewer where its narrowest width comes first, or where it has no such
            width.
        criterion: what is least in the trial that is kept: the "drop" of PSNR (the paper), the drop for each multiply-add
            saved, or for each second saved. Of equals the trial that saves more multiply-adds.
        lazy: 0 tries every layer at every step. m above 0 tries the m layers whose last known drop was least (all at
            first), which is m trials a step instead of one for each layer.
    """

    group: int = 16
    criterion: Criterion = "drop"
    lazy: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot search.

        Raises:
            InputError: a group below 1, an unknown criterion, or a negative number of layers.
        """
        if self.group < 1 or self.lazy < 0:
            raise InputError(f"group is at least 1 and lazy at least 0, got {self.group} and {self.lazy}")
        if self.criterion not in get_args(Criterion):
            raise InputError(f"criterion is one of {', '.join(get_args(Criterion))}, got {self.criterion!r}")


@dataclass(frozen=True, slots=True)
class SlimmingProgress:
    """Where a search stands.

    Attributes:
        routes: found so far.
        trials: made so far, and before a resumption.
        share: of the way that it has gone, 0 to 1.
        psnr: of the last route.
        seconds_left: about, by the way gone since it was started or resumed; None before the first step.
    """

    routes: int
    trials: int
    share: float
    psnr: float
    seconds_left: float | None


Report = Callable[[SlimmingProgress], object]


def slim(
    network: Network,
    judge: Judge,
    config: SlimmingConfig,
    out: Path,
    *,
    latency: Latency | None = None,
    resume: bool = False,
    report: Report | None = None,
) -> RoutingSpace:
    """Search the routing space of a trained supernet, and write it to ``routes.json`` in ``out``.

    Args:
        network: the supernet.
        judge: scores its sub-networks.
        config: see `SlimmingConfig`.
        out: the folder of the search.
        latency: measures or predicts seconds: of every trial for "drop_per_second", which needs it, else of every route.
        resume: go on from the state in ``out``.
        report: called after each trial.

    Raises:
        InputError: "drop_per_second" without a latency.
        TrainingError: nothing to resume, another search in the folder, or one of another network or with other settings.
    """
    if config.criterion == "drop_per_second" and latency is None:
        raise InputError("the criterion drop_per_second needs a latency; see measured_latency")
    search = _Search(network, judge, config, out / STATE, latency, report)
    search.start(resume)
    space = RoutingSpace(search.go(), judge.label)
    space.save(out / ROUTES, network)
    return space


def slimmer(dim: ChannelDim, width: int, group: int) -> int | None:
    """The next width of ``dim`` below ``width``: the greatest that is at least ``group`` less, else its narrowest; None at
    the end."""
    if width == dim.narrowest:
        return None
    allowed = [w for w in dim.widths if w <= width - group]
    return allowed[-1] if allowed else dim.narrowest


def measured_latency(network: Network, *, size: int = 256, repeats: int = 5) -> Latency:
    """Measures the seconds of extracted sub-networks on one picture of ``size`` pixels a side: the median of ``repeats``."""

    def latency(plan: ChannelPlan) -> float:
        plain = network.extract(plan)
        x = torch.rand(1, network.facts.channels, size, size, device=next(network.parameters()).device)
        degradation = None if network.facts.level_range is None else x.new_tensor(network.facts.level_range[1])
        at, told = network.told(torch.full((1,), 0.1, device=x.device), degradation)
        times = []
        with torch.inference_mode():
            plain(x, *at, **told)
            for _ in range(repeats):
                start = time.perf_counter()
                plain(x, *at, **told)
                if x.is_cuda:
                    torch.cuda.synchronize(x.device)
                times.append(time.perf_counter() - start)
        return statistics.median(times)

    return latency


class _Search:
    """The state of one search. ``trials`` maps a layer to [PSNR, seconds] of this step, ``known`` to its last known drop."""

    def __init__(
        self,
        network: Network,
        judge: Judge,
        config: SlimmingConfig,
        path: Path,
        latency: Latency | None,
        report: Report | None,
    ) -> None:
        self.network, self.judge, self.config, self.path = network, judge, config, path
        self.latency, self.report = latency, report
        self.routes: list[Route] = []
        self.trials: dict[str, tuple[float, float | None]] = {}
        self.known: dict[str, float] = {}
        self.count = 0
        self.began, self.share_before = time.perf_counter(), 0.0

    def start(self, resume: bool) -> None:
        if resume:
            self._load()
            self.share_before = self._share()
        elif self.path.exists():
            raise TrainingError(f"{self.path.parent} holds a search already; resume it, or choose another folder")
        else:
            plan = self.network.space.widest
            self._add(plan, *self._try(plan))

    def go(self) -> tuple[Route, ...]:
        while steps := self._steps():
            for name in self._worth_trying(steps):
                if name not in self.trials:
                    self.trials[name] = self._try(steps[name])
                    self._save()
                    self._tell()
            self._keep_best(steps)
        return tuple(self.routes)

    def _steps(self) -> dict[str, ChannelPlan]:
        """For each layer that is not at its narrowest: the plan in which it has a group fewer."""
        now, space = self.routes[-1].plan, self.network.space
        narrower = {dim.name: slimmer(dim, now[dim.name], self.config.group) for dim in space.dims}
        return {name: space.plan({**now, name: width}) for name, width in narrower.items() if width is not None}

    def _worth_trying(self, steps: Mapping[str, ChannelPlan]) -> list[str]:
        if not self.config.lazy or any(name not in self.known for name in steps):
            return list(steps)
        return sorted(steps, key=lambda name: self.known[name])[: self.config.lazy]

    def _keep_best(self, steps: Mapping[str, ChannelPlan]) -> None:
        now = self.routes[-1]
        scores: dict[str, tuple[float, float]] = {}
        for name, (psnr, seconds) in self.trials.items():
            saved = now.macs_per_pixel - self.network.macs_per_pixel(steps[name])
            score = self._score(now.psnr - psnr, saved, now.seconds, seconds)
            self.known[name] = score
            scores[name] = (score, -saved)
        best = min(scores, key=lambda name: scores[name])
        trial = self.trials[best]
        self.trials = {}
        self._add(steps[best], *trial)

    def _score(self, drop: float, saved: float, before: float | None, after: float | None) -> float:
        if self.config.criterion == "drop":
            return drop
        if self.config.criterion == "drop_per_mac":
            return drop / saved
        assert before is not None
        assert after is not None
        return drop / (before - after) if before > after else math.inf

    def _try(self, plan: ChannelPlan) -> tuple[float, float | None]:
        self.count += 1
        latency = self.latency if self.config.criterion == "drop_per_second" else None
        return self.judge.psnr(self.network, plan), None if latency is None else latency(plan)

    def _add(self, plan: ChannelPlan, psnr: float, seconds: float | None) -> None:
        if seconds is None and self.latency is not None:
            seconds = self.latency(plan)
        ssim = self.judge.ssim(self.network, plan)
        self.routes.append(Route(plan, self.network.macs_per_pixel(plan), psnr, ssim, seconds))
        self._save()
        self._tell()

    def _tell(self) -> None:
        if self.report is None:
            return
        share, left = self._share(), None
        if share > self.share_before:
            pace = (time.perf_counter() - self.began) / (share - self.share_before)
            left = pace * (1 - share)
        self.report(SlimmingProgress(len(self.routes), self.count, share, self.routes[-1].psnr, left))

    def _share(self) -> float:
        """The channels that are gone, of all that will be."""
        space, now = self.network.space, self.routes[-1].plan
        whole = sum(dim.widest - dim.narrowest for dim in space.dims)
        return sum(dim.widest - now[dim.name] for dim in space.dims) / max(1, whole)

    def _fingerprint(self) -> dict[str, Any]:
        """What must not change between a search and its continuation."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return {
            "network": name_of(self.network),
            "config": self.network.config,
            "weights": digest.hexdigest(),
            "pictures": self.judge.identity,
            "latency": self.latency is not None,
            **asdict(self.config),
        }

    def _save(self) -> None:
        if not hasattr(self, "_mark"):
            self._mark = self._fingerprint()
        state = {
            "search": self._mark,
            "routes": [{**asdict(route), "plan": str(route.plan)} for route in self.routes],
            "trials": self.trials,
            "known": self.known,
            "count": self.count,
        }
        with whole_file(self.path) as temporary:
            temporary.write_text(json.dumps(state))

    def _load(self) -> None:
        if not self.path.is_file():
            raise TrainingError(f"{self.path.parent} holds no search to resume; start it without resuming")
        try:
            state = json.loads(self.path.read_text())
            mark = state["search"]
            self._mark = self._fingerprint()
            changed = [name for name in self._mark if mark.get(name) != self._mark[name]]
            if changed:
                raise TrainingError(
                    f"the search in {self.path.parent} was of another {' and '.join(changed)}; resume it with its own, "
                    "or choose another folder"
                )
            parse = self.network.space.parse
            self.routes = [Route(**{**fields, "plan": parse(fields["plan"])}) for fields in state["routes"]]
            self.trials = {name: (float(psnr), seconds) for name, (psnr, seconds) in state["trials"].items()}
            self.known, self.count = dict(state["known"]), int(state["count"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(f"the state {self.path} cannot be read ({error}); start the search anew") from None
