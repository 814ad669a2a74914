"""What benchmarks share that train: runs kept under a folder and found again, and a verdict over seeds.

A run's weights, its scores and its pace lie under the folder and are not made again: after any interruption, the same command
goes on.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from grainwise.cli.restorers import pictures_in, restorer_of
from grainwise.core.commit import current_commit
from grainwise.core.errors import InputError
from grainwise.core.files import whole_file
from grainwise.evaluation.degraded import Bicubic, Jpeg, evaluate_degraded
from grainwise.evaluation.measure import Restorer, evaluate
from grainwise.evaluation.protocol import RGB_U8, FloatPicture, Noise
from grainwise.networks.checkpoint import Card, MeasuredPlan, load_weights, save_weights
from grainwise.runtime.denoiser import Denoiser
from grainwise.training import recipes
from grainwise.training.loop import CHECKPOINT, train
from grainwise.training.recipe import Recipe

CLEAR = 0.01
"""A gain below this many dB is none."""
QUANTILES = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833)
"""Student's t, one-sided 5 %, of 1 to 9 degrees of freedom; the last serves for more, and asks for a little too much."""
RULE = (
    f"A gain holds where its mean over the seeds is at least {CLEAR} dB and clear of zero by Student's t (one-sided 5 %: "
    f"{QUANTILES[0]:.2f} standard errors of two seeds, {QUANTILES[1]:.2f} of three, {QUANTILES[2]:.2f} of four). One seed "
    "decides nothing."
)
"""What `judge` does, for the pages."""

Scores = dict[str, float]
MakesRecipe = Callable[[], Recipe]
Degrades = Callable[[float], Noise | Jpeg | Bicubic]
"""What a level of a benchmark stands for."""

PACED = 30
"""Steps of which the pace is measured; the first five warm up."""


def noise_of_255(level: float) -> Noise:
    """Gaussian noise of ``level`` 255ths."""
    return Noise(sigma=level / 255)


def short_run(args: argparse.Namespace, steps: int, seed: int) -> list[str]:
    """The settings of a run of so many steps: --train, --crop, --batch and --set of a benchmark, a warm-up of its length."""
    return [
        f"data={','.join(map(str, args.train))}",
        f"loop.steps={steps}",
        f"loop.warmup={min(100, steps // 5)}",
        f"loop.crops=[[0,{args.crop}]]",
        f"loop.batch={args.batch}",
        f"loop.seed={seed}",
        "loop.validate_every=0",
        *args.set,
    ]


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """On what a run is scored: every set at every level (of noise, 255 sigma), ``limit`` pictures of each set.

    Protocol `rgb-u8` for noise, see `restorer`; a score's name is such as ``cbsd68 25``.
    """

    test: Path
    sets: Sequence[str]
    levels: Sequence[float]
    limit: int | None = None
    ssim: bool = False
    degrades: Degrades = noise_of_255

    @property
    def cells(self) -> list[str]:
        """The names of the scores."""
        return [f"{name} {level:g}" for name in self.sets for level in self.levels]

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured."""
        return ("psnr", "ssim") if self.ssim else ("psnr",)

    def measure(self, restore: Restorer, cells: Collection[str]) -> dict[str, Scores]:
        """PSNR in dB, and where it is asked for SSIM, of each of ``cells``."""
        scores: dict[str, Scores] = {metric: {} for metric in self.metrics}
        for cell in cells:
            name, level = cell.rsplit(" ", 1)
            pictures, kind = pictures_in(self.test / name, self.limit), self.degrades(float(level))
            if isinstance(kind, Noise):
                found = evaluate(restore, pictures, kind, RGB_U8, with_ssim=self.ssim)
            else:
                found = evaluate_degraded(restore, pictures, kind, with_ssim=self.ssim)
            for metric in self.metrics:
                scores[metric][cell] = round(getattr(found, metric), 4)
        return scores


class Runs:
    """The runs under one folder.

    Args:
        out: the folder.
        settings: what all of its runs share; a later call with other settings is refused.
        addable: the names of the settings of which 0 says that they are not given; these may be given later.
        cache: where decoded pictures are kept.

    Raises:
        InputError: the folder holds runs with other settings.
    """

    def __init__(
        self,
        out: Path,
        settings: Mapping[str, object],
        *,
        addable: Collection[str] = (),
        cache: Path = Path(".cache/corpus"),
    ) -> None:
        self.out, self.addable, self.cache = out, addable, cache
        self.corpora: dict[tuple[object, ...], tuple[Any, Any]] = {}
        self._same_as_before({name: str(value) for name, value in settings.items()})

    def _same_as_before(self, settings: dict[str, str]) -> None:
        def absent(name: str, value: str) -> bool:
            return name in self.addable and value in ("0", "0.0")

        before = self.note("settings", lambda: settings)
        changed = [
            name
            for name, value in settings.items()
            if before.get(name, value) != value and not absent(name, value) and not absent(name, before[name])
        ]
        if changed:
            raise InputError(f"{self.out} holds runs with another {', '.join(changed)}; take another --out")
        kept = {name: before.get(name, value) if absent(name, value) else value for name, value in settings.items()}
        self.write("settings", before | kept)

    def note(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 -- JSON
        """What is written down as ``name`` under the folder, made now where it is not there."""
        path = self.out / f"{name}.json"
        if not path.exists():
            self.write(name, make())
        return json.loads(path.read_text())

    def write(self, name: str, value: Any) -> None:  # noqa: ANN401 -- JSON
        """Write ``value`` down as ``name``."""
        with whole_file(self.out / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(value))

    def _train(self, name: str, recipe: Recipe, folder: Path, *, keep: bool = True) -> list[float]:
        """Train in ``folder``; where it is kept, also write the weights. Gives the clock after each step."""
        source = (recipe.data, recipe.crops.reductions, recipe.hold_out)
        if source not in self.corpora:
            self.corpora[source] = recipes.corpora(recipe, self.cache)
        network = recipes.network_of(recipe)
        method = recipe.method.build(network, seed=recipe.loop.seed)
        alone = torch.get_num_threads() == 1
        clock: list[float] = []
        result = train(
            recipe.loop,
            method,
            recipe.crops.build(self.corpora[source][0]),
            folder,
            resume=keep and (folder / CHECKPOINT).exists(),
            report=lambda p: clock.append(time.process_time() if alone else p.seconds),
        )
        if keep:
            network.load_state_dict(result.weights)
            plan = network.space.widest
            card = Card(
                licence="for this benchmark only",
                data=recipe.data,
                recipe=name,
                commit=current_commit(),
                steps=result.steps,
                seconds=result.seconds,
                device="cpu",
                plans=(MeasuredPlan(str(plan), round(network.macs_per_pixel(plan)), {}, "best"),),
            )
            save_weights(folder / "weights.safetensors", network, card)
        return clock

    def weights(self, name: str, make: MakesRecipe) -> Path:
        """The weights of the run ``name``, trained now by the recipe that ``make`` gives where they are not there.

        Raises:
            InputError: they are there, or were begun, by another recipe.
        """
        folder, recipe = self.out / name, make()
        path = folder / "weights.safetensors"
        begun = path.exists() or (folder / CHECKPOINT).exists()
        if begun and self.note(f"{name}/recipe", lambda: repr(recipe)) != repr(recipe):
            raise InputError(f"{folder} holds a run by another recipe of that name; take another --out, or delete it")
        if not path.exists():
            self.write(f"{name}/recipe", repr(recipe))
            print(f"training {name}: {recipe.loop.steps} steps", flush=True)
            self._train(name, recipe, folder)
        return path

    def steps_in(self, minutes: float, name: str, make: Callable[[int], Recipe]) -> int:
        """How many steps of ``make(steps)`` take so long, by the pace that is measured once and written down as ``name``.

        On one thread the process's own time counts, so that a machine that is busy otherwise changes nothing.
        """

        return max(1, int(60 * minutes / self.seconds_per_step(name, make)))

    def seconds_per_step(self, name: str, make: Callable[[int], Recipe], steps: int = PACED) -> float:
        """The pace of ``make(steps)``, see `steps_in`."""

        def pace() -> dict[str, float]:
            with tempfile.TemporaryDirectory() as folder:
                clock = self._train(name, make(steps), Path(folder), keep=False)[steps // 6 :]
            return {"seconds_per_step": statistics.median(after - before for before, after in pairwise(clock))}

        return float(self.note(f"pace-{name}", pace)["seconds_per_step"])

    def scores(self, name: str, make: MakesRecipe, scoring: Scoring) -> dict[str, Any]:
        """What the run ``name`` scores and costs, measured now where that is not written down."""
        weights = self.weights(name, make)

        def measure() -> dict[str, Any]:
            loaded = load_weights(weights)
            return {
                "psnr": {},
                "macs_per_pixel": loaded.card.plans[0].macs_per_pixel,
                "parameters": sum(p.numel() for p in loaded.network.parameters()),
                "steps": loaded.card.steps,
                "seconds": loaded.card.seconds,
            }

        self.note(f"{name}/scores", measure)
        return self.measured(f"{name}/scores", scoring, lambda: restorer(weights))

    def missing(self, name: str, scoring: Scoring) -> list[str]:
        """The cells of ``scoring`` that are not written down as ``name``."""
        path = self.out / f"{name}.json"
        scores: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return [cell for cell in scoring.cells if any(cell not in scores.get(m, {}) for m in scoring.metrics)]

    def measured(self, name: str, scoring: Scoring, make: Callable[[], Restorer]) -> dict[str, Any]:
        """What is written down as ``name``, with the scores of the method that ``make`` gives, measured now where missing."""
        scores: dict[str, Any] = self.note(name, dict)
        missing = self.missing(name, scoring)
        if missing:
            for metric, found in scoring.measure(make(), missing).items():
                scores[metric] = scores.get(metric, {}) | found
            self.write(name, scores)
        return scores | {metric: {cell: scores[metric][cell] for cell in scoring.cells} for metric in scoring.metrics}


def restorer(weights: Path, *, narrowest: bool = False) -> Restorer:
    """What scores are taken with: on the CPU, in float32, told the level where the network takes it.

    The widest plan, or the ``narrowest``. `Denoiser` takes no network that is blind, and knows the plans of the card alone; for
    the others the network runs on the whole picture.
    """
    loaded = load_weights(weights)
    space, needs_sigma = loaded.network.space, loaded.network.facts.needs_sigma
    if needs_sigma and not narrowest:
        return restorer_of(Denoiser(loaded, device="cpu", dtype="float32"), "best")
    plan = space.narrowest if narrowest else space.widest
    plain = loaded.network.extract(plan).to(memory_format=torch.channels_last)

    def restore(noisy: FloatPicture, sigma: float) -> FloatPicture:
        told = {"sigma": torch.tensor([sigma])} if needs_sigma else {}
        with torch.inference_mode():
            restored = plain(torch.from_numpy(noisy).permute(2, 0, 1)[None], **told)
        return restored[0].permute(1, 2, 0).contiguous().numpy()

    return restore


def interval(gains: Sequence[float]) -> tuple[float, float]:
    """Between which dB the mean gain lies, each end by Student's t at one-sided 5 %; of one seed, anywhere."""
    if len(gains) < 2:
        return -math.inf, math.inf
    quantile = QUANTILES[min(len(gains) - 1, len(QUANTILES)) - 1]
    mean, half = statistics.fmean(gains), quantile * statistics.stdev(gains) / len(gains) ** 0.5
    return mean - half, mean + half


def judge(gains: Sequence[float], *, least: float = CLEAR, told: str = "") -> str:
    """A verdict on one gain in dB for each seed.

    Args:
        gains: what is judged; one alone is told, and decides nothing.
        least: what the mean must reach; 0 for a claim of "at least as good". The interval of the mean must keep within `CLEAR`
            of it.
        told: the figures in words, in place of the gains.
    """
    if not gains:
        return "not measured"
    mean = statistics.fmean(gains)
    told = told or f"{mean:+.3f} dB, seeds " + ", ".join(f"{value:+.3f}" for value in gains)
    if len(gains) < 2:
        return f"undecided, one seed {'for' if mean >= least else 'against'} it ({told})"
    low, high = interval(gains)
    if mean >= least and low > least - CLEAR:
        return f"holds ({told})"
    if mean < least and high < least + CLEAR:
        return f"does not hold ({told})"
    return f"undecided ({told})"
