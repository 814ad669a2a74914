"""Does heterogeneous distillation help? Students of MDRN with and without each kind of teacher, and what that says.

    python benchmarks/mdrn.py --train ../shared/data/train-free --test ../shared/data/test --steps 20000 --minutes 60

Each student is trained alone, with a larger MDRN as its teacher at the same noise (S1), with one of another architecture there
(S1-other: --teacher, the default network), with one of its own size that sees less noise (S2), and with S1 and S2 together; for
several seeds; for equal steps (--steps) and for equal time (--minutes: each arm's steps are that time divided by its own
measured time a step). A U-Net of the package, as costly, is a control. Weights and scores of every run lie under --out and are
not made again: after any interruption, the same command goes on. The report is made of all runs there, by whichever call.
"""

import argparse
import json
import math
import shlex
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from resumable_runs import RULE, Runs, Scores, Scoring, judge, short_run

from grainwise.core.commit import current_commit
from grainwise.core.errors import InputError
from grainwise.core.files import whole_file
from grainwise.evaluation.environment import environment
from grainwise.networks.checkpoint import load_weights
from grainwise.networks.mdrn import SIZES
from grainwise.runtime.machine import tune_allocator
from grainwise.training import recipes
from grainwise.training.loop import LoopConfig
from grainwise.training.recipe import Recipe

TAUGHT = ("S1", "S1-other", "S2", "S1+S2")
ARMS = ("alone", *TAUGHT, "U-Net")
BUDGETS = ("steps", "minutes")
LEVELS = (10, 15, 25, 30, 50, 70)
HIGH, LOW = (50, 70), (10, 15)
SETS = ("cbsd68", "kodak24", "set12")
CONTROLS = {
    "tiny": {"widths": [[16], [32], [64]], "blocks": [2, 2, 2]},
    "small": {"widths": [[32], [64], [128]], "blocks": [2, 2, 2]},
    "base": {"widths": [[48], [96], [192]], "blocks": [2, 2, 2]},
}
PUBLISHED = {
    "DnCNN": {10: 36.31, 30: 30.40, 50: 28.01, 70: 26.56},
    "FFDNet": {10: 36.14, 30: 30.31, 50: 27.96, 70: 26.53},
}
"""CBSD68, dB, as MLEFGN's table (TNNLS 2020) prints them; networks of other authors, not run here."""
COST = {"DnCNN": ("parameters", 560_000), "FFDNet": ("macs_per_pixel", 214_000)}
"""What we have of theirs to compare with: DnCNN's parameters, and FFDNet's MACs/px, counted (14.0 GMAC at 256x256)."""
FREE_TO_CHANGE = ("sizes", "arms", "seeds", "out", "report", "ssim")
"""What a later call with the same --out may set otherwise; --steps and --minutes may be added."""
QUIET_SEED = 1000


@dataclass(frozen=True)
class Run:
    """One training run: which student, taught how, from which seed, for equal "steps" or "minutes"."""

    budget: str
    size: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.budget}-{self.size}-{self.arm}-{self.seed}"


def block_taps(student: str, teacher: str) -> str:
    """The end of each block of the student, paired with the teacher's block as far along."""
    mine, theirs = (SIZES[size]["blocks"] for size in (student, teacher))
    pairs = [(i, -(-(i + 1) * theirs // mine) - 1) for i in range(mine)]
    return ",".join(f"blocks.{i}=blocks.{j}" for i, j in pairs)


class Bench:
    """The runs under one folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        settings = {name: value for name, value in vars(args).items() if name not in FREE_TO_CHANGE}
        self.runs = Runs(args.out, settings, addable=("steps", "minutes"))
        self.scoring = Scoring(test=args.test, sets=args.sets, levels=args.levels, limit=args.limit, ssim=args.ssim)

    def changes(self, run: Run, steps: int) -> list[str]:
        """The settings of a run, beside those of its recipe."""
        changes = short_run(self.args, steps, run.seed)
        if run.arm == "U-Net":
            return [*changes, "network=half_unet", f"config={json.dumps(CONTROLS[run.size])}"]
        if run.arm in ("S1", "S1+S2"):
            teacher = self.weights(Run("teacher", self.args.teacher_size, "alone", 0))
            taps = block_taps(run.size, self.args.teacher_size)
            changes += [f"method.teacher={teacher}", f"method.teacher_taps={taps}"]
        if run.arm == "S1-other":
            changes += [f"method.teacher={self.args.teacher}"]
        if run.arm in ("S2", "S1+S2"):
            quiet = self.weights(Run("teacher", run.size, "alone", QUIET_SEED))
            changes += [f"method.quiet_teacher={quiet}", f"method.quiet_taps={block_taps(run.size, run.size)}"]
            changes += [f"method.quiet_noise={self.args.quiet_noise}"]
        return changes

    def recipe(self, run: Run, steps: int) -> Recipe:
        """The recipe of a run."""
        return recipes.get_recipe(f"mdrn-{run.size}", self.changes(run, steps))

    def weights(self, run: Run) -> Path:
        """The weights of ``run``, trained now where they are not there."""
        return self.runs.weights(run.name, lambda: self.recipe(run, self.steps(run)))

    def steps(self, run: Run) -> int:
        """Teachers have steps of their own; equal time is turned into steps by each arm's measured pace, kept in a file."""
        if run.budget == "teacher":
            return int(self.args.teacher_steps)
        if run.budget == "steps":
            return int(self.args.steps)
        return self.runs.steps_in(self.args.minutes, f"{run.size}-{run.arm}", lambda steps: self.recipe(run, steps))

    def scores(self, run: Run) -> dict[str, Any]:
        """What ``run`` scores, measured now where that is not written down."""
        return self.runs.scores(run.name, lambda: self.recipe(run, self.steps(run)), self.scoring)

    def seconds_per_megapixel(self, run: Run) -> float:
        """Of its network, extracted, on the CPU in float32, at 512x512: the median of nine calls."""
        network = load_weights(self.weights(run)).network
        plain = network.extract(network.space.widest).to(memory_format=torch.channels_last)
        x, sigma = torch.rand(1, 3, 512, 512), torch.tensor([25 / 255])
        clock = []
        with torch.inference_mode():
            for _ in range(12):
                start = time.perf_counter()
                plain(x, sigma=sigma)
                clock.append(time.perf_counter() - start)
        return statistics.median(clock[3:]) * 1e6 / 512**2

    def there(self) -> list[Run]:
        """Every run that was trained and scored, by whichever call; no teachers."""
        found = []
        for path in sorted(Path(self.args.out).glob("*-*/scores.json")):
            budget, size, rest = path.parent.name.split("-", 2)
            arm, _, seed = rest.rpartition("-")
            if budget in BUDGETS and arm in ARMS and path.with_name("weights.safetensors").exists():
                found.append(Run(budget, size, arm, int(seed)))
        return sorted(found, key=lambda run: run.seed)


def gain(results: dict[Run, dict[str, Any]], pair: tuple[Run, ...], cells: list[str]) -> float:
    """By how many dB the second run of ``pair`` beats the first, mean over the cells."""
    first, second = (results[run]["psnr"] for run in pair)
    return statistics.fmean(second[cell] - first[cell] for cell in cells)


def gains_of(
    results: dict[Run, dict[str, Any]], budget: str, size: str, arms: tuple[str, str], levels: tuple[int, ...]
) -> list[float]:
    """The gain of the second arm over the first, for each seed that both have."""
    found = []
    for run in results:
        if (run.budget, run.size, run.arm) == (budget, size, arms[0]):
            other = Run(budget, size, arms[1], run.seed)
            cells = [cell for cell in results[run]["psnr"] if int(cell.split()[1]) in levels]
            if other in results and cells:
                found.append(gain(results, (run, other), cells))
    return found


def verdicts(results: dict[Run, dict[str, Any]], limit: int | None) -> list[tuple[str, str]]:
    """(claim, verdict), for each claim of the abstract that can be tested here; published figures need whole test sets."""
    told: list[tuple[str, str]] = []
    for budget in sorted({run.budget for run in results}):
        for size in sorted({run.size for run in results}, key=list(SIZES).index):
            where = f"{size}, equal {budget}"
            for arm in TAUGHT:
                every = gains_of(results, budget, size, ("alone", arm), LEVELS)
                high = gains_of(results, budget, size, ("alone", arm), HIGH)
                if every:
                    told.append((f"{arm} improves the {size} model ({where}, all levels)", judge(every)))
                if high:
                    told.append((f"{arm} improves it at high noise ({where}, sigma 50 and 70)", judge(high)))
                low = gains_of(results, budget, size, ("alone", arm), LOW)
                if judge(high).startswith("holds") and len(low) == len(high):
                    more = [a - b for a, b in zip(high, low, strict=True)]
                    told.append((f"{arm} helps more there than at sigma 10 and 15 ({where})", judge(more)))
            against = gains_of(results, budget, size, ("U-Net", "alone"), LEVELS)
            if against:
                told.append((f"MDRN is better than a U-Net as costly ({where}, no teacher)", judge(against)))
            told += favourable(results, budget, size) if limit is None else []
    return told


def favourable(results: dict[Run, dict[str, Any]], budget: str, size: str) -> list[tuple[str, str]]:
    """Whether the best arm, mean over its seeds, of which it has two at least, reaches published networks at less cost.

    On CBSD68; which arm is the best is read from the same pictures, and the claim says so.
    """
    told = []
    for name, figures in PUBLISHED.items():
        gaps: dict[str, dict[int, float]] = {}
        for arm in ARMS[:-1]:
            ours = [results[run] for run in results if (run.budget, run.size, run.arm) == (budget, size, arm)]
            levels = [level for level in figures if len(ours) > 1 and f"cbsd68 {level}" in ours[0]["psnr"]]
            if levels:
                gaps[arm] = {v: statistics.fmean(r["psnr"][f"cbsd68 {v}"] for r in ours) - figures[v] for v in levels}
        if not gaps:
            continue
        arm = max(gaps, key=lambda arm: statistics.fmean(gaps[arm].values()))
        kind, theirs = COST[name]
        cost = next(results[run][kind] for run in results if (run.budget, run.size, run.arm) == (budget, size, arm))
        words = f"fewer {'parameters' if kind == 'parameters' else 'MACs/px'}"
        reached = cost < theirs and min(gaps[arm].values()) >= 0
        figures_told = ", ".join(f"{gap:+.2f} at {level}" for level, gap in gaps[arm].items())
        which = f"{size} (best of the arms on these very pictures: {arm}; equal {budget})"
        claim = f"{which} matches {name} as published, with {words}"
        told.append((claim, f"{'holds' if reached else 'does not hold'} ({figures_told}; {cost:,} against {theirs:,})"))
    return told


def table(results: dict[Run, dict[str, Any]], budget: str, metric: str = "psnr") -> list[str]:
    """Mean over the seeds, and the spread between them, of every arm; ``metric`` is "psnr" or "ssim"."""
    digits = {"psnr": 2, "ssim": 4}[metric]
    chosen = [run for run in results if run.budget == budget]
    cells = list(results[chosen[0]][metric])
    head = ["student", "taught by", "MACs/px", "parameters", "steps", "minutes", "seeds", *cells]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for size in SIZES:
        for arm in ARMS:
            rows = [results[run] for run in chosen if (run.size, run.arm) == (size, arm)]
            if not rows:
                continue
            minutes = statistics.fmean(row["seconds"] for row in rows) / 60
            line = [size, "nobody" if arm in ("alone", "U-Net") else arm, f"{rows[0]['macs_per_pixel']:,}"]
            line[0] = f"U-Net like {size}" if arm == "U-Net" else size
            line += [f"{rows[0]['parameters']:,}", str(rows[0]["steps"]), f"{minutes:.1f}", str(len(rows))]
            for cell in cells:
                values = [row[metric][cell] for row in rows]
                spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
                line.append(f"{statistics.fmean(values):.{digits}f}{spread}")
            lines.append("| " + " | ".join(line) + " |")
    return lines


def per_cost(results: dict[Run, dict[str, Any]], seconds: dict[tuple[str, bool], float]) -> list[str]:
    """What is gained over the noisy picture, mean over seeds, sets and levels, and that by parameter and by second."""
    lines = [
        "| student | taught by | equal | gain, dB | parameters | dB per 100K parameters | ms a megapixel | dB per 100 ms |"
    ]
    lines.append("|---|---|---|" + "---:|" * 5)
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in results:
        groups.setdefault((run.size, run.arm, run.budget), []).append(run)
    for (size, arm, budget), runs in sorted(groups.items(), key=lambda item: (item[0][2], item[0][0])):
        gains = [statistics.fmean(gain_over_noise(results[run])) for run in runs]
        mean, parameters = statistics.fmean(gains), results[runs[0]]["parameters"]
        ms = 1e3 * seconds[size, arm == "U-Net"]
        student = f"U-Net like {size}" if arm == "U-Net" else size
        taught = "nobody" if arm in ("alone", "U-Net") else arm
        lines.append(f"| {student} | {taught} | {budget} | {mean:.2f} | {parameters:,} | {1e5 * mean / parameters:.2f} "
                     f"| {ms:.0f} | {100 * mean / ms:.2f} |")  # fmt: skip
    return lines


def gain_over_noise(row: dict[str, Any]) -> list[float]:
    """dB over the noisy picture, whose noise is not clipped, of each cell."""
    return [psnr - 20 * math.log10(255 / int(cell.split()[1])) for cell, psnr in row["psnr"].items()]


def report(
    results: dict[Run, dict[str, Any]],
    seconds: dict[tuple[str, bool], float],
    teachers: dict[str, Scores],
    command: str,
    path: Path,
    limit: int | None,
) -> None:
    """Write ``path`` (Markdown) and the same numbers beside it as JSON.

    Args:
        results: of every run.
        seconds: a megapixel, for each size and whether it is the U-Net.
        teachers: their scores.
        command: that made it.
        path: of the page.
        limit: pictures of a set, None for all.
    """
    here = environment(commit=current_commit())
    lines = ["# MDRN and heterogeneous distillation", ""]
    lines += ["PSNR in dB, protocol `rgb-u8`, level told, float32; mean over seeds ± standard deviation between them.",
              "Set12 is grey and goes through the colour network; published Set12 figures are of grey networks. The network is",
              "a reconstruction from the abstract: nothing here is a number of the paper.", "", f"`{command}`", "",
              f"{here.cpu}, {here.threads} thread(s), torch {here.torch}, commit {here.commit}, {here.date}.", ""]  # fmt: skip
    lines += [f"The first {limit} pictures of each set.", ""] if limit else []
    for budget in sorted({run.budget for run in results}):
        lines += [f"## Equal {budget}", "", *table(results, budget), ""]
        if all(row.get("ssim") for run, row in results.items() if run.budget == budget):
            lines += ["SSIM:", "", *table(results, budget, "ssim"), ""]
    lines += ["## By parameter and by second", "", *per_cost(results, seconds), "", "## Teachers", ""]
    for name, scores in teachers.items():
        lines.append(f"- {name}: " + ", ".join(f"{cell} {value:.2f}" for cell, value in scores.items()))
    lines += ["", "## What the abstract claims, and what these numbers say", ""]
    lines += [RULE, ""]
    lines += [
        "| claim | verdict |",
        "|---|---|",
        *(f"| {claim} | {verdict} |" for claim, verdict in verdicts(results, limit)),
    ]
    with whole_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    rows = [{**asdict(run), **scores} for run, scores in results.items()]
    with whole_file(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"environment": here.to_json(), "runs": rows, "teachers": teachers}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="folders of pictures to train on")
    parser.add_argument("--test", type=Path, required=True, help="the folder that holds the test sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--levels", type=int, nargs="+", default=list(LEVELS))
    parser.add_argument("--limit", type=int, help="pictures a set")
    parser.add_argument("--ssim", action="store_true", help="measure SSIM too")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["tiny", "small"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=0, help="of every arm, for equal steps; 0 leaves that out")
    parser.add_argument("--minutes", type=float, default=0, help="of every arm, for equal time; 0 leaves that out")
    parser.add_argument(
        "--teacher", default="default", help="weights of another architecture, which teach at the same noise too"
    )
    parser.add_argument("--teacher-size", choices=list(SIZES), default="base", help="of S1's teacher")
    parser.add_argument("--teacher-steps", type=int, default=LoopConfig().steps)
    parser.add_argument("--quiet-noise", type=float, default=0.5, help="the share of the noise that S2's teacher sees")
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change any setting of the recipe"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/mdrn"), help="where runs are kept, and found again")
    parser.add_argument("--report", type=Path, default=Path("docs/results/mdrn.md"))
    args = parser.parse_args()
    budgets = [name for name in BUDGETS if getattr(args, name) > 0]
    if not budgets:
        raise InputError("give --steps, --minutes or both")
    tune_allocator()
    bench = Bench(args)
    for seed in args.seeds:
        for run in [Run(b, size, arm, seed) for b in budgets for size in args.sizes for arm in args.arms]:
            print(run.name, bench.scores(run)["psnr"], flush=True)
    results = {run: bench.scores(run) for run in bench.there()}
    teachers = {}
    if any(run.arm in ("S1", "S1+S2") for run in results):
        teachers[f"S1: {args.teacher_size}"] = bench.scores(Run("teacher", args.teacher_size, "alone", 0))["psnr"]
    for size in [
        size for size in SIZES if any((run.size, run.arm) in ((size, "S2"), (size, "S1+S2")) for run in results)
    ]:
        quiet = bench.scores(Run("teacher", size, "alone", QUIET_SEED))
        teachers[f"S2: {size}, seen at the full level"] = quiet["psnr"]
    seconds = {(run.size, run.arm == "U-Net"): bench.seconds_per_megapixel(run) for run in results}
    report(results, seconds, teachers, f"python benchmarks/mdrn.py {shlex.join(sys.argv[1:])}", args.report, args.limit)


if __name__ == "__main__":
    main()
