"""The claims of HyperRes (arXiv 2206.05970) at the scale of this machine, and ours beside the paper's.

    python benchmarks/hyperres.py --train ../shared/data/train-free --test ../shared/data/test --tasks denoise --plan
    python benchmarks/hyperres.py --train ../shared/data/train-free --test ../shared/data/test --tasks denoise

Parts (--parts): "tables": one hyper-network against one network for each level (tables 1 to 3); "between": between and outside
the trained noise levels, against AdaFM and DNI; "rivals": there too, CResMD and CFSNet (table 4); "input": PSNR against the
level that the network is told (figure 5); "blind": the level estimated, against told; "widths": one slimmable hyper-network
against hyper-networks of each width alone. All but "tables" and "blind" are about noise. Every network, and each stage of one
that is taught in two, is trained for the same --steps. Runs, scores and paces lie under --out and are not made again: after
any interruption, the same command goes on. What is still to be done is told first, with the time that it takes; --plan ends
there. The report (Markdown, JSON, and pictures where matplotlib is installed) is made of the parts and tasks asked for.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hyperres_report import write_report
from hyperres_runs import (
    ADAFM,
    ALONG,
    CFSNET,
    CRESMD,
    DEGRADATIONS,
    DEGRADES,
    DNI,
    ESTIMATES,
    SETS,
    SLIMMABLE,
    SLIMMABLE_LONGER,
    TABLED,
    TASKS,
    TOLD,
    TRAINED,
    TRUE,
    WIDTHS,
    Method,
    Run,
    dedicated,
    dni,
    hyper,
    of_width,
    told,
)
from resumable_runs import Runs, Scoring, short_run

from grainwise.cli.restorers import pictures_in
from grainwise.core.commit import current_commit
from grainwise.core.pictures import picture_paths
from grainwise.evaluation.environment import environment
from grainwise.networks.checkpoint import load_weights
from grainwise.networks.network import Network
from grainwise.runtime.machine import tune_allocator
from grainwise.training import recipes
from grainwise.training.recipe import Recipe

FREE_TO_CHANGE = ("parts", "tasks", "seeds", "cache", "out", "report", "plan")
"""What a later call with the same --out may set otherwise."""

PACED = 12
"""Steps of which the pace of a network is measured."""


class Bench:
    """The runs of one seed."""

    def __init__(self, args: argparse.Namespace, runs: Runs, seed: int) -> None:
        self.args, self.runs, self.seed = args, runs, seed

    def recipe(self, run: Run, steps: int, *, init: bool = True) -> Recipe:
        """The recipe of a run; without ``init`` from first weights in any case, to see its pace."""
        unit = 255 if run.task == "denoise" else 1
        config = {"task": {"sr": "upscale"}.get(run.task, run.task), "blocks": self.args.blocks,
                  "channels": 1 if run.task == "dejpeg" else 3}  # fmt: skip
        if run.network == "hyperres":
            config |= {"stream": (WIDTHS[-1],), "residual": True}
        changes = [
            f"network={run.network}",
            f"config={json.dumps(config | dict(run.config))}",
            f"crops.degradation={DEGRADATIONS[run.task]}",
            f"crops.levels={json.dumps([level / unit for level in run.levels])}",
            f"crops.luma={json.dumps(run.task == 'dejpeg')}",
            f"method.subnets={run.subnets}",
            f"method.learns={run.learns}",
            *([] if run.subnets == 1 else ["method.jitter=0"]),
            *short_run(self.args, steps, self.seed),
        ]
        if init and run.start is not None:
            changes.append(f"init={self.weights(run.start)}")
        return recipes.get_recipe(f"hyperres-{run.task}-small", changes)

    def name(self, run: Run) -> str:
        """Its folder under that of all runs."""
        return f"seed-{self.seed}/{run.name}"

    def weights(self, run: Run) -> Path:
        """The weights of ``run``, trained now where they are not there."""
        return self.runs.weights(self.name(run), lambda: self.recipe(run, run.longer * self.args.steps))

    def network(self, run: Run) -> Network:
        """The trained network."""
        return load_weights(self.weights(run)).network

    def scoring(self, task: str, *levels: float) -> Scoring:
        """What is scored of a task."""
        return Scoring(test=self.args.test, sets=(SETS[task],), levels=levels, limit=self.args.limit,
                       degrades=DEGRADES[task])  # fmt: skip

    def seconds_per_step(self, run: Run) -> float:
        """The pace of runs of its kind."""
        return self.runs.seconds_per_step(run.kind, lambda steps: self.recipe(run, steps, init=False), PACED)

    def seconds_per_picture(self, task: str) -> float:
        """How long it takes to restore and compare a test picture, with a hyper-network that has learned nothing."""

        def pace() -> float:
            method = told(recipes.network_of(self.recipe(hyper(task), 1)))
            scoring = self.scoring(task, TRAINED[task][-1])
            pictures = len(list(pictures_in(self.args.test / SETS[task], self.args.limit)))
            start = time.process_time()
            scoring.measure(method, scoring.cells)
            return (time.process_time() - start) / pictures / torch.get_num_threads()

        return float(self.runs.note(f"pace-scores-{task}", pace))

    def psnr(self, score: "Score") -> float:
        """Of one figure, measured now where that is not written down."""
        scoring, name = self.scoring(score.run.task, score.level), f"{self.name(score.run)}/{score.note}"
        new = self.runs.missing(name, scoring)
        (psnr,) = self.runs.measured(name, scoring, lambda: score.make(self))["psnr"].values()
        if new:
            print(f"{name} {score.level:g}: {psnr:.2f} dB", flush=True)
        return float(psnr)


@dataclass(frozen=True)
class Score:
    """One figure.

    Args:
        place: in the results of its part.
        run: the network.
        level: of the degradation.
        note: the file beside the weights where it is written down.
        make: gives the method under test, called with a picture and the true level in the units of the task.
    """

    place: tuple[str | float, ...]
    run: Run
    level: float
    note: str
    make: Callable[[Bench], Method]


def score(
    place: tuple[str | float, ...],
    run: Run,
    level: float,
    *,
    width: int | None = None,
    share: float = 1.0,
    blind: bool = False,
) -> Score:
    """The score of a network at a width of its own or the widest, told ``share`` of the level, true or estimated."""
    note = "scores" + ("" if width is None else f"-width-{width}") + ("" if share == 1 else f"-told-{share:g}")
    return Score(
        place,
        run,
        level,
        note + ("-blind" if blind else ""),
        lambda bench: told(
            bench.network(run), width, share=share, level_of=ESTIMATES[run.task] if blind else lambda _, value: value
        ),
    )


def tables(tasks: Sequence[str]) -> Iterator[Score]:
    """Task, level -> the one hyper-network and, where it was trained, the level's own network."""
    for task in tasks:
        for level in TABLED[task]:
            yield score((task, level, "hyper"), hyper(task), level)
            if level in TRAINED[task]:
                yield score((task, level, "dedicated"), dedicated(task, level), level)


def interpolated(bench: Bench) -> Method:
    """DNI."""
    assert DNI.start is not None
    return dni(bench.network(DNI.start), bench.network(DNI))


def between(_: Sequence[str]) -> Iterator[Score]:
    """Noise level -> the hyper-network, AdaFM and DNI."""
    for level in ALONG:
        yield score((level, "hyper"), hyper("denoise"), level)
        yield score((level, "AdaFM"), ADAFM, level)
        yield Score((level, "DNI"), DNI, level, "scores-interpolated", interpolated)


def rivals(_: Sequence[str]) -> Iterator[Score]:
    """Noise level -> the hyper-network, CResMD and CFSNet."""
    for level in ALONG:
        for name, run in (("hyper", hyper("denoise")), ("CResMD", CRESMD), ("CFSNet", CFSNET)):
            yield score((level, name), run, level)


def by_input(_: Sequence[str]) -> Iterator[Score]:
    """True noise level, share of it that is told."""
    return (score((level, share), hyper("denoise"), level, share=share) for level in TRUE for share in TOLD)


def blind(tasks: Sequence[str]) -> Iterator[Score]:
    """Task, trained level -> told and blind."""
    for task in tasks:
        for level in TRAINED[task]:
            yield score((task, level, "told"), hyper(task), level)
            yield score((task, level, "blind"), hyper(task), level, blind=True)


def by_width(_: Sequence[str]) -> Iterator[Score]:
    """Width, noise level -> the slimmable network at that width, the same taught longer, and one of that width alone."""
    for width in WIDTHS:
        for level in TRAINED["denoise"]:
            yield score((width, level, "slimmable"), SLIMMABLE, level, width=width)
            yield score((width, level, "longer"), SLIMMABLE_LONGER, level, width=width)
            yield score((width, level, "alone"), of_width(width), level)


PARTS: dict[str, Callable[[Sequence[str]], Iterator[Score]]] = {
    "tables": tables, "between": between, "input": by_input, "blind": blind, "widths": by_width, "rivals": rivals
}  # fmt: skip
OF_EVERY_TASK = ("tables", "blind")


def scores_of(args: argparse.Namespace) -> dict[str, list[Score]]:
    """Part -> its figures, of the parts and tasks asked for."""
    parts = [part for part in PARTS if part in args.parts and (part in OF_EVERY_TASK or "denoise" in args.tasks)]
    return {part: list(PARTS[part](args.tasks)) for part in parts}


def plan(benches: Sequence[Bench], parts: dict[str, list[Score]]) -> Iterator[str]:
    """How many minutes each part still takes, runs shared with an earlier part counted there."""
    seen: set[tuple[int, Run]] = set()
    total = 0.0
    for part, scores in parts.items():
        training, scoring, count = 0.0, 0.0, 0
        for bench in benches:
            runs = {run: None for s in scores for run in (s.run.start, s.run) if run is not None}
            for run in runs:
                there = (bench.runs.out / bench.name(run) / "weights.safetensors").exists()
                if (bench.seed, run) not in seen and not there:
                    training += run.longer * bench.args.steps * bench.seconds_per_step(run) / 60
                    count += 1
                seen.add((bench.seed, run))
            for each in scores:
                name, what = f"{bench.name(each.run)}/{each.note}", bench.scoring(each.run.task, each.level)
                if bench.runs.missing(name, what):
                    there = len(picture_paths(bench.args.test / SETS[each.run.task]))
                    scoring += min(bench.args.limit, there) * bench.seconds_per_picture(each.run.task) / 60
        total += training + scoring
        yield f"{part}: {count} networks to train, {training:.1f} min; scores, {scoring:.1f} min"
    yield f"together {total:.1f} min of this many threads: {torch.get_num_threads()}"


def together(found: Sequence[Any]) -> Any:  # noqa: ANN401 -- nested dictionaries
    """The results of several seeds as one, with lists of figures."""
    if not isinstance(found[0], dict):
        return list(found)
    return {key: together([each[key] for each in found]) for key in found[0]}


def measured(bench: Bench, scores: Sequence[Score]) -> dict[Any, Any]:
    """The figures at their places."""
    found: dict[Any, Any] = {}
    for each in scores:
        rows = found
        for key in each.place[:-1]:
            rows = rows.setdefault(key, {})
        rows[each.place[-1]] = bench.psnr(each)
    return found


def costs(bench: Bench, parts: dict[str, list[Score]]) -> dict[str, dict[str, int]]:
    """What each kind of network costs at its widest, and how many numbers its file holds."""
    runs = {each.run.kind: each.run for scores in parts.values() for each in scores}
    networks = {kind: bench.network(run) for kind, run in runs.items()}
    return {kind: {"macs_per_pixel": round(net.macs_per_pixel(net.space.widest)),
                   "parameters": sum(p.numel() for p in net.parameters())} for kind, net in networks.items()}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="folders of pictures to train on")
    parser.add_argument("--test", type=Path, required=True, help="the folder that holds cbsd68, live1 and set5")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of every run")
    parser.add_argument("--limit", type=int, default=12, help="pictures a set at most, at least 1")
    parser.add_argument("--steps", type=int, default=4_000, help="of every network")
    parser.add_argument("--blocks", type=int, default=4, help="16 in the paper")
    parser.add_argument("--crop", type=int, default=48)
    parser.add_argument("--batch", type=int, default=4, help="crops a step and level")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change any setting of the recipe"
    )
    parser.add_argument("--plan", action="store_true", help="tell what is to be done, and do nothing")
    parser.add_argument("--cache", type=Path, default=Path(".cache/corpus"), help="where decoded pictures are kept")
    parser.add_argument("--out", type=Path, default=Path("runs/hyperres"), help="where runs are kept, and found again")
    parser.add_argument("--report", type=Path, default=Path("docs/results/hyperres.md"))
    args = parser.parse_args(arguments)
    if args.limit < 1:
        parser.error(f"--limit is at least 1, got {args.limit}")
    tune_allocator()
    free = (*FREE_TO_CHANGE, "steps", "limit") if args.plan else FREE_TO_CHANGE
    settings = {name: value for name, value in vars(args).items() if name not in free}
    runs = Runs(args.out, settings, cache=args.cache)
    benches, parts = [Bench(args, runs, seed) for seed in args.seeds], scores_of(args)
    print("\n".join(plan(benches, parts)), flush=True)
    if args.plan:
        return
    found = [{part: measured(bench, scores) for part, scores in parts.items()} for bench in benches]
    scale = {name: getattr(args, name) for name in ("steps", "blocks", "crop", "batch", "limit", "seeds")}
    command = f"python benchmarks/hyperres.py {shlex.join(arguments or sys.argv[1:])}"
    write_report(
        args.report, together(found), costs(benches[0], parts), scale, TRAINED, command,
        environment(commit=current_commit()),
    )  # fmt: skip


if __name__ == "__main__":
    main()
