"""How well the level of a picture is told blind (HyperRes, section 4.4): the paper's estimator, and the classical estimates.

    python benchmarks/level_estimator.py --train ../shared/data/train-free --test ../shared/data/test

For each task (noise, JPEG, super-resolution) the paper's network is taught for --steps steps, on both protocols of the task at
once. Then every test picture is degraded at each tabled level, and its level told three ways: by the mean of a grid of crops
that covers the picture, by one crop, as the paper's code does, and by the classical estimate of the package. Last, trained
hyper-networks of the task (--hyper, made by benchmarks/hyperres.py) are told each of these in place of the truth. Runs and
estimates lie under --out and are not made again: after any interruption the same command goes on. Times are measured anew.

The weights, `--out`/TASK/estimator.safetensors, are those that `grainwise estimate --task TASK --estimator FILE` takes.
"""

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hyperres_runs import DEGRADES, ESTIMATES, SETS, TRAINED, Estimate, told
from level_estimator_report import write_report
from level_estimator_tasks import (
    CLASSICAL,
    EVERY,
    LEARNED,
    ONE_CROP,
    REDUCTIONS,
    SUBJECTS,
    TOLD,
    Test,
    estimator_of,
    lessons_of,
)
from resumable_runs import Runs, Scoring

from grainwise.cli.restorers import pictures_in
from grainwise.core.commit import current_commit
from grainwise.core.errors import InputError
from grainwise.data.corpus import corpus_of
from grainwise.evaluation.environment import environment
from grainwise.evaluation.measure import unit_picture
from grainwise.evaluation.protocol import FloatPicture
from grainwise.networks.checkpoint import load_estimator, load_weights
from grainwise.networks.level_estimator import CROP, LevelEstimator
from grainwise.runtime.machine import tune_allocator
from grainwise.training.estimator import train_estimator
from grainwise.training.loop import CHECKPOINT, LoopConfig, Progress

STEPS, RATE = 3_000, 3e-4
FREE_TO_CHANGE = ("tasks", "steps", "hyper", "cache", "out", "report")
"""What a later call with the same --out may set otherwise."""
REPEATS = 7
LEAST_SIDE = CROP + 16
"""Of the pictures to learn from: a crop, and around it what a degradation wants."""


class Bench:
    """The runs of one folder."""

    def __init__(self, args: argparse.Namespace, runs: Runs) -> None:
        self.args, self.runs = args, runs

    def estimator(self, name: str) -> LevelEstimator:
        """The trained estimator of a task, trained now where it is not there."""
        folder, args = self.runs.out / name, self.args
        path, steps = folder / "estimator.safetensors", args.steps[name]
        if self.runs.note(f"{name}/steps", lambda: steps) != steps:
            raise InputError(f"{folder} holds a run of other steps than {steps}; take another --out")
        if not path.exists():
            print(f"training {name}: {steps} steps", flush=True)
            corpus = corpus_of(args.train, args.cache, reductions=tuple(REDUCTIONS), smallest=LEAST_SIDE)
            train_estimator(
                estimator_of(SUBJECTS[name], args.seed),
                lessons_of(SUBJECTS[name], corpus),
                loop_of(args, steps),
                folder,
                licence="for this benchmark only",
                data=tuple(folder.name for folder in args.train),
                recipe="benchmarks/level_estimator.py",
                resume=(folder / CHECKPOINT).exists(),
                report=tell,
            )
        return load_estimator(path)[0]

    def training(self, name: str) -> dict[str, float]:
        """How long the estimator of a task was taught."""
        self.estimator(name)
        card = load_estimator(self.runs.out / name / "estimator.safetensors")[1]
        return {"steps": card.steps, "seconds": card.seconds}

    def estimates(self, name: str, test: Test, level: float) -> dict[str, list[list[float]]]:
        """What each method says of each picture, in the units of the tables; one crop, each of the grid."""
        subject = SUBJECTS[name]

        def measure() -> dict[str, list[list[float]]]:
            estimator = self.estimator(name)
            found: dict[str, list[list[float]]] = {LEARNED: [], ONE_CROP: [], CLASSICAL: []}
            for degraded in self.degraded(test, level):
                told = estimator.estimate(tensor_of(degraded, estimator))
                found[LEARNED].append([subject.unit * told.value])
                found[ONE_CROP].append([subject.unit * value for row in told.grid for value in row])
                found[CLASSICAL].append([subject.unit * ESTIMATES[name](degraded, level)])
            print(f"{name}, {test.name}, {test.pictures}, {level:g}: done", flush=True)
            return {
                method: [[round(value, 4) for value in each] for each in values] for method, values in found.items()
            }

        kept: dict[str, list[list[float]]] = self.runs.note(f"{name}/estimates/{test.slug}-{level:g}", measure)
        return kept

    def degraded(self, test: Test, level: float) -> Iterator[FloatPicture]:
        """The test pictures at a level."""
        for name, pixels in pictures_in(self.args.test / test.pictures, self.args.limit):
            yield test.degrade(name, unit_picture(pixels, name), level)

    def accuracy(self, name: str) -> dict[str, Any]:
        """Protocol -> level -> method -> figures, see `figures`."""
        subject = SUBJECTS[name]
        return {
            test.title: {
                f"{level:g}": {
                    method: figures(values, level, subject.within)
                    for method, values in self.estimates(name, test, level).items()
                }
                for level in subject.levels
            }
            for test in subject.tests
        }

    def seconds(self, name: str) -> dict[str, Any]:
        """Processor time that each method takes for the first picture of a set, median of several runs; see `main`."""
        subject = SUBJECTS[name]
        test, level = subject.tests[0], subject.levels[len(subject.levels) // 2]
        picture = next(self.degraded(test, level))
        estimator = self.estimator(name)
        x = tensor_of(picture, estimator)
        crop = x[:, :, :CROP, :CROP]
        calls: dict[str, Callable[[], object]] = {
            LEARNED: lambda: estimator.estimate(x),
            ONE_CROP: lambda: estimator.estimate(crop),
            CLASSICAL: lambda: ESTIMATES[name](picture, level),
        }
        return {"picture": list(picture.shape[1::-1])} | {
            method: median_seconds(call) for method, call in calls.items()
        }

    def psnr(self, name: str) -> dict[str, dict[str, list[float]]]:
        """Level -> how the network is told -> PSNR in dB of each seed's hyper-network."""
        rows: dict[str, dict[str, list[float]]] = {}
        for folder in self.args.hyper:
            weights = folder / f"{name}-hyper" / "weights.safetensors"
            if weights.exists():
                for level, way, value in self.network_told(name, weights, folder.as_posix().replace("/", "_")):
                    rows.setdefault(level, {}).setdefault(way, []).append(value)
        return rows

    def network_told(self, name: str, weights: Path, seed: str) -> Iterator[tuple[str, str, float]]:
        """Level, how the network of ``weights`` is told it, and PSNR in dB."""
        network, estimator = load_weights(weights).network, self.estimator(name)
        ways: dict[str, Estimate] = {
            TOLD: lambda _, value: value,
            LEARNED: lambda picture, _: estimator.estimate(tensor_of(picture, estimator)).value,
            ONE_CROP: lambda picture, _: estimator.estimate(any_crop(tensor_of(picture, estimator))).value,
            CLASSICAL: ESTIMATES[name],
        }
        scoring = Scoring(test=self.args.test, sets=(SETS[name],), levels=TRAINED[name], limit=self.args.psnr_limit,
                          degrades=DEGRADES[name])  # fmt: skip
        for way, level_of in ways.items():
            note = f"{name}/psnr-{seed}/{way.replace(', ', '-').replace(' ', '-')}"
            method = partial(told, network, level_of=level_of)
            found = self.runs.measured(note, scoring, method)["psnr"]
            print(f"{note}: {found}", flush=True)
            for level in TRAINED[name]:
                yield f"{level:g}", way, found[f"{SETS[name]} {level:g}"]


def steps_of(given: Sequence[str]) -> dict[str, int]:
    """Task -> steps, of "3000" for all and "denoise=5000" for one.

    Raises:
        ValueError: something else.
    """
    steps = dict.fromkeys(SUBJECTS, STEPS)
    for each in given:
        name, equals, count = each.rpartition("=")
        if (equals and name not in SUBJECTS) or int(count) < 1:
            raise ValueError(f"--steps takes N or TASK=N, got {each!r}")
        steps |= {name: int(count)} if equals else dict.fromkeys(SUBJECTS, int(count))
    return steps


def loop_of(args: argparse.Namespace, steps: int) -> LoopConfig:
    """How the estimators are taught."""
    return LoopConfig(
        steps=steps,
        batch=args.crops,
        crops=((0, CROP),),
        optimizer="muon",
        learning_rate=RATE,
        warmup=min(50, steps // 5),
        ema=0.99,
        seed=args.seed,
        validate_every=0,
    )


def tell(progress: Progress) -> None:
    """How far a training run is."""
    if progress.step % 100 == 0:
        print(
            f"step {progress.step}: {progress.losses['loss']:.4f}, {progress.seconds_left / 60:.1f} min left",
            flush=True,
        )


def tensor_of(picture: FloatPicture, estimator: LevelEstimator) -> torch.Tensor:
    """[1, channels, H, W] of a picture [H, W, 1 or 3]; luma is shown in all channels."""
    x = torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
    return x.expand(-1, estimator.channels, -1, -1)


def any_crop(x: torch.Tensor) -> torch.Tensor:
    """A crop of a picture, or all of a small one, at a random place that its pixels decide."""
    generator = np.random.default_rng(int(1e3 * float(x.abs().sum())))
    top, left = (int(generator.integers(0, max(0, side - CROP) + 1)) for side in x.shape[2:])
    return x[:, :, top : top + CROP, left : left + CROP]


def figures(found: Sequence[Sequence[float]], level: float, within: tuple[float, float]) -> dict[str, float]:
    """Mean absolute error, and shares of the estimates less than the first, at most the second of ``within`` off.

    Args:
        found: the estimates of each picture; pictures count alike.
        level: the truth.
        within: see `Subject`.
    """
    errors = [np.abs(np.array(each) - level) for each in found]
    return {
        "error": statistics.fmean(float(each.mean()) for each in errors),
        "near": statistics.fmean(float((each < within[0]).mean()) for each in errors),
        "within": statistics.fmean(float((each <= within[1]).mean()) for each in errors),
    }


def median_seconds(call: Callable[[], object]) -> float:
    """Of the process's own time, all threads together, which other processes do not add to."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="folders of pictures to train on")
    parser.add_argument(
        "--test", type=Path, required=True, help="the folder that holds cbsd68, live1, set5 and kodak24"
    )
    parser.add_argument("--tasks", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument(
        "--steps",
        nargs="+",
        default=[],
        metavar="[TASK=]N",
        help=f"of every training ({STEPS}), or of that of one task",
    )
    parser.add_argument("--crops", type=int, default=4, help=f"a step, each at {EVERY} levels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="pictures a set at most, at least 1")
    parser.add_argument(
        "--hyper",
        type=Path,
        nargs="*",
        default=[Path("runs/hyperres/seed-0"), Path("runs/hyperres/seed-1")],
        help="runs of benchmarks/hyperres.py, a folder for each seed; those that are not there are left out",
    )
    parser.add_argument("--psnr-limit", type=int, default=8, help="pictures a set that the hyper-networks restore")
    parser.add_argument("--cache", type=Path, default=Path(".cache/corpus"), help="where decoded pictures are kept")
    parser.add_argument("--out", type=Path, default=Path("runs/level-estimator"), help="where runs are kept")
    parser.add_argument("--report", type=Path, default=Path("docs/results/level-estimator.md"))
    args = parser.parse_args(arguments)
    for limit in (args.limit, args.psnr_limit):
        if limit is not None and limit < 1:
            parser.error(f"a limit of pictures is at least 1, got {limit}")
    try:
        args.steps = steps_of(args.steps)
    except ValueError as error:
        parser.error(str(error))
    tune_allocator()
    settings = {name: value for name, value in vars(args).items() if name not in FREE_TO_CHANGE}
    bench = Bench(args, Runs(args.out, settings, cache=args.cache))
    for name in args.tasks:
        bench.estimator(name)
    found = {
        name: {
            "training": bench.training(name),
            "accuracy": bench.accuracy(name),
            "psnr": bench.psnr(name),
            "seconds": bench.seconds(name),
        }
        for name in args.tasks
    }
    write_report(
        args.report,
        found,
        {name: getattr(args, name) for name in ("crops", "limit", "psnr_limit")},
        f"python benchmarks/level_estimator.py {shlex.join(arguments or sys.argv[1:])}",
        environment(commit=current_commit()),
    )


if __name__ == "__main__":
    main()
