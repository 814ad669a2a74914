"""Does an outside teacher help the narrowest plan of the default network, and does it add to in-place synergy?

    python benchmarks/outside_teacher.py --train ../shared/data/train-free --test ../shared/data/test

The `default` recipe, four ways, for equal steps and from the same first weights, crops and plans: every sub-network taught by
the clean picture; in-place synergy (DDS-Net), half its weight left to the clean picture, since alone it destroys (decision 4);
the clean picture and, for the narrowest, an outside teacher (HMDS of MDRN); synergy and that teacher. Weights and scores lie
under --out and are not made again: after any interruption, the same command goes on.
"""

import argparse
import json
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

from resumable_runs import RULE, Runs, Scoring, judge, restorer, short_run

from grainwise.core.commit import current_commit
from grainwise.core.files import whole_file
from grainwise.evaluation.environment import Environment, environment
from grainwise.runtime.machine import tune_allocator
from grainwise.training import recipes
from grainwise.training.recipe import Recipe

SYNERGY = ("method.synergy=true", "method.clean_share=0.5")
ARMS = ("clean picture", "synergy", "outside teacher", "synergy and outside teacher")
PLANS = ("narrowest", "widest")
CLAIMS = (
    ("an outside teacher helps", "clean picture", "outside teacher"),
    ("in-place synergy helps", "clean picture", "synergy"),
    ("an outside teacher adds to in-place synergy", "synergy", "synergy and outside teacher"),
)
FREE_TO_CHANGE = ("seeds", "out", "report", "arms")
"""What a later call with the same --out may set otherwise."""

Results = dict[tuple[str, int, str], dict[str, Any]]
"""(arm, seed, plan) -> scores."""


class Bench:
    """The runs under one folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.runs = Runs(args.out, {name: value for name, value in vars(args).items() if name not in FREE_TO_CHANGE})
        self.scoring = Scoring(test=args.test, sets=args.sets, levels=args.levels, limit=args.limit)

    def recipe(self, arm: str, seed: int) -> Recipe:
        """The default recipe, shorter, and taught so."""
        changes = short_run(self.args, self.args.steps, seed)
        if "synergy" in arm:
            changes += SYNERGY
        if "teacher" in arm:
            changes.append(f"method.teacher={self.args.teacher}")
        return recipes.get_recipe("default", changes)

    def scores(self, arm: str, seed: int, plan: str) -> dict[str, Any]:
        """Of one plan, trained and measured now where that is not written down."""
        name = f"seed-{seed}/{arm.replace(' ', '-')}"
        weights = self.runs.weights(name, lambda: self.recipe(arm, seed))
        return self.runs.measured(
            f"{name}/{plan}", self.scoring, lambda: restorer(weights, narrowest=plan == "narrowest")
        )


def gains(results: Results, arms: tuple[str, str], plan: str) -> list[float]:
    """Of the second arm over the first, mean over the cells, for each seed that both have."""
    return [
        statistics.fmean(results[arms[1], seed, plan]["psnr"][cell] - psnr for cell, psnr in row["psnr"].items())
        for (arm, seed, its), row in results.items()
        if (arm, its) == (arms[0], plan) and (arms[1], seed, plan) in results
    ]


def table(results: Results, plan: str) -> list[str]:
    """Mean and spread over the seeds, of each arm."""
    cells = list(next(iter(results.values()))["psnr"])
    lines = ["| taught by | " + " | ".join(cells) + " |", "|---|" + "---:|" * len(cells)]
    for arm in ARMS:
        rows = [row["psnr"] for (name, _, its), row in results.items() if (name, its) == (arm, plan)]
        if rows:
            spread = [f" ± {statistics.stdev(r[c] for r in rows):.2f}" if len(rows) > 1 else "" for c in cells]
            means = [f"{statistics.fmean(r[c] for r in rows):.2f}" for c in cells]
            lines.append(f"| {arm} | " + " | ".join(map("".join, zip(means, spread, strict=True))) + " |")
    return lines


def page(results: Results, args: argparse.Namespace, command: str, here: Environment) -> str:
    """The report, in Markdown."""
    seeds = sorted({seed for _, seed, _ in results})
    lines = ["# An outside teacher for the narrowest plan", "",
             f"The `default` recipe for {args.steps:,} steps of {args.batch} crops of {args.crop} pixels, seeds "
             f"{', '.join(map(str, seeds))}. Outside teacher: `{args.teacher}`, at its widest plan.",
             f"PSNR in dB, protocol `rgb-u8`, level told, float32, the first {args.limit} pictures of each set; mean over",
             "seeds ± standard deviation between them.", "", f"`{command}`", "",
             f"{here.cpu}, {here.threads} thread(s), torch {here.torch}, commit {here.commit}, {here.date}.", ""]  # fmt: skip
    lines += [RULE, "", "| claim | plan | verdict |", "|---|---|---|"]
    for claim, *arms in CLAIMS:
        lines += [f"| {claim} | {plan} | {judge(gains(results, (arms[0], arms[1]), plan))} |" for plan in PLANS]
    for plan in PLANS:
        lines += ["", f"## The {plan} plan", "", *table(results, plan)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="folders of pictures to train on")
    parser.add_argument("--test", type=Path, required=True, help="the folder that holds the test sets")
    parser.add_argument("--sets", nargs="+", default=["cbsd68", "kodak24"])
    parser.add_argument("--levels", type=int, nargs="+", default=[10, 25, 50, 70])
    parser.add_argument("--limit", type=int, default=12, help="pictures a set")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--crop", type=int, default=48)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--teacher", default="default", help="its weights: a name of the package's, or a file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change any setting")
    parser.add_argument("--out", type=Path, default=Path("runs/outside-teacher"), help="where runs are kept")
    parser.add_argument("--report", type=Path, default=Path("docs/results/outside-teacher.md"))
    args = parser.parse_args()
    tune_allocator()
    bench = Bench(args)
    results: Results = {}
    for seed in args.seeds:
        for arm in args.arms:
            for plan in PLANS:
                results[arm, seed, plan] = bench.scores(arm, seed, plan)
                print(f"seed {seed}, {arm}, {plan}: {results[arm, seed, plan]['psnr']}", flush=True)
    command, here = (
        f"python benchmarks/outside_teacher.py {shlex.join(sys.argv[1:])}",
        environment(commit=current_commit()),
    )
    with whole_file(args.report) as temporary:
        temporary.write_text(page(results, args, command, here))
    rows = [{"arm": arm, "seed": seed, "plan": plan, **row} for (arm, seed, plan), row in results.items()]
    with whole_file(args.report.with_suffix(".json")) as temporary:
        told = {"command": command, "environment": here.to_json(), "runs": rows}
        temporary.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
