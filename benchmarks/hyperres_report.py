"""The report of benchmarks/hyperres.py: tables with the paper's numbers beside ours, verdicts, pictures."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resumable_runs import RULE, judge

from grainwise.core.errors import GrainwiseError
from grainwise.core.files import whole_file
from grainwise.core.optional import BENCH_EXTRA, optional_module
from grainwise.evaluation.environment import Environment

PUBLISHED: dict[str, dict[float, tuple[float, float]]] = {
    "dejpeg": {10: (28.82, 28.81), 30: (32.57, 32.56), 50: (34.40, 34.39), 70: (36.40, 36.38), 80: (38.14, 38.09)},
    "denoise": {5: (40.48, 40.39), 25: (31.42, 31.40), 45: (28.64, 28.51), 65: (27.06, 27.06), 90: (25.73, 25.73)},
    "sr": {2: (36.95, 36.71), 3: (29.86, 29.77), 4: (29.54, 29.48), 5: (25.67, 25.63), 6: (25.06, 24.92)},
}
"""Level -> dB of (one network for each level, HyperRes), as the paper prints them: 16 blocks, 1,000,000 steps, DIV2K."""
TITLES = {
    "denoise": "Noise: CBSD68, RGB, 255 sigma",
    "dejpeg": "JPEG: LIVE1, luma, quality",
    "sr": "Super-resolution: Set5, luma, scale (OpenCV's bicubic down and up)",
}
NEAR, BLIND, TOLERANCE = 0.1, 0.05, 0.10
"""dB that one network may lose; dB that blind use may cost; how far the best told level may lie from the true one."""
SLIMMABLE_STEPS = {"slimmable": "equal steps", "longer": "twice the steps"}
"""Column -> how long the slimmable network was taught, beside a network of one width alone."""

Figures = Sequence[float]
"""One for each seed."""
Found = Mapping[str, Any]
"""Part -> task, level or what else -> column -> figures."""
Rows = Mapping[float, Mapping[str, Figures]]


def gaps(rows: Iterable[Mapping[str, Figures]], first: str, second: str) -> list[list[float]]:
    """By how many dB ``first`` lies above ``second``: for each row that has both, each seed."""
    return [
        [a - b for a, b in zip(row[first], row[second], strict=True)] for row in rows if first in row and second in row
    ]


def by_seed(each: Sequence[Figures]) -> list[float]:
    """The mean over the rows, of each seed."""
    return [statistics.fmean(values) for values in zip(*each, strict=True)]


def best_share(curve: Mapping[float, float]) -> float:
    """Where PSNR against the told share is greatest: the top of the parabola through the best share and its neighbours."""
    shares = sorted(curve)
    top = max(range(len(shares)), key=lambda i: curve[shares[i]])
    if top in (0, len(shares) - 1):
        return shares[top]
    (a, b, c), (x, y, z) = (shares[top - 1 : top + 2], [curve[s] for s in shares[top - 1 : top + 2]])
    left, right = (b - a) * (y - z), (b - c) * (y - x)
    return b if left == right else b - 0.5 * ((b - a) * left - (b - c) * right) / (left - right)


def best_shares(curve: Mapping[float, Figures]) -> list[float]:
    """`best_share` of each seed."""
    seeds = range(len(next(iter(curve.values()))))
    return [best_share({share: values[seed] for share, values in curve.items()}) for seed in seeds]


def verdicts(found: Found, trained: Mapping[str, tuple[float, ...]]) -> list[tuple[str, str]]:
    """(claim, what our numbers say)."""
    told: list[tuple[str, str]] = []
    for task, rows in found.get("tables", {}).items():
        each = gaps(rows.values(), "hyper", "dedicated")
        worst = min(map(statistics.fmean, each))
        claim = f"{task}: one hyper-network within {NEAR:g} dB of {len(each)} networks' mean, equal steps a network"
        shown = f"{statistics.fmean(by_seed(each)):+.3f} dB; worst level {worst:+.3f}"
        told.append((claim, judge(by_seed(each), least=-NEAR, told=shown)))
    for part in ("between", "rivals"):
        told += rival_verdicts(found.get(part, {}), trained["denoise"])
    if "input" in found:
        best = {level: best_shares(curve) for level, curve in found["input"].items()}
        shown = ", ".join(f"{statistics.fmean(shares):.2f} of {level:g}" for level, shares in best.items())
        far = [-max(abs(share - 1) for share in shares) for shares in zip(*best.values(), strict=True)]
        claim = f"the best input level lies within {100 * TOLERANCE:g} % of the true one"
        told.append((claim, judge(far, least=-TOLERANCE, told=shown)))
    for task, rows in found.get("blind", {}).items():
        each = gaps(rows.values(), "blind", "told")
        lost = {level: -statistics.fmean(row) for level, row in zip(rows, each, strict=True)}
        worst = max(lost, key=lambda level: lost[level])
        shown = f"mean {-statistics.fmean(by_seed(each)):+.3f} dB, most {lost[worst]:+.3f} at {worst:g}"
        claim = f"{task}: blind costs at most {BLIND:g} dB, mean over the levels"
        told.append((claim, judge(by_seed(each), least=-BLIND, told=shown)))
    for width, rows in found.get("widths", {}).items():
        for which, steps in SLIMMABLE_STEPS.items():
            gap = by_seed(gaps(rows.values(), which, "alone"))
            claim = (
                f"slimmable and hyper, {steps}: width {width} within {NEAR:g} dB of a hyper-network of that width alone"
            )
            shown = f"{statistics.fmean(gap):+.3f} dB, mean over {len(rows)} noise levels"
            told.append((claim, judge(gap, least=-NEAR, told=shown)))
    return told


def rival_verdicts(found: Rows, trained: Sequence[float]) -> list[tuple[str, str]]:
    """Whether the hyper-network beats each rival at every level between, and at every one outside the trained levels."""
    ends = trained[0], trained[-1]
    places = {
        "between": [level for level in found if ends[0] < level < ends[1] and level not in trained],
        "outside": [level for level in found if not ends[0] <= level <= ends[1]],
    }
    told = []
    for where, levels in places.items():
        for rival in [name for name in next(iter(found.values()), {}) if name != "hyper"]:
            each = gaps([found[level] for level in levels], "hyper", rival)
            shown = ", ".join(f"{statistics.fmean(g):+.2f} at {v:g}" for g, v in zip(each, levels, strict=True))
            least = [min(values) for values in zip(*each, strict=True)]
            told.append((f"{where} the trained noise levels it beats {rival}", judge(least, told=shown)))
    return told


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def number(values: Figures | None) -> str:
    """Mean of the seeds, and their standard deviation where there are several."""
    if values is None:
        return ""
    return f"{statistics.fmean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def difference(row: Mapping[str, Figures], first: str, second: str, digits: int = 3) -> str:
    """By how many dB ``first`` lies above ``second``, mean of the seeds; empty where one is missing."""
    each = gaps([row], first, second)
    return f"{statistics.fmean(each[0]):+.{digits}f}" if each else ""


def task_table(task: str, rows: Rows) -> list[str]:
    """Ours and the paper's at every level that either has."""
    published = PUBLISHED[task]
    lines = []
    for level in sorted({*rows, *published}):
        ours, theirs = rows.get(level, {}), published.get(level)
        paper = ["", "", ""]
        if theirs is not None:
            paper = [*(f"{value:.2f}" for value in theirs), f"{theirs[1] - theirs[0]:+.2f}"]
        gap = difference(ours, "hyper", "dedicated", 2)
        lines.append([f"{level:g}", number(ours.get("dedicated")), number(ours.get("hyper")), gap, *paper])
    head = ["level", "own network, ours", "hyper, ours", "gap, ours", "own, paper", "hyper, paper", "gap, paper"]
    return [f"### {TITLES[task]}", "", *table(head, lines)]


RIVALS = {
    "between": (
        "## Between and outside the trained levels",
        "AdaFM and DNI are taught at the least and the greatest of the hyper-network's levels.",
    ),
    "rivals": (
        "## Beside CResMD and CFSNet (table 4)",
        "CResMD is the same trunk, taught the hyper-network's levels; CFSNet is taught at the least and the greatest of them, "
        "works at full resolution, and gives the picture itself, as published: a drawback in short trainings.",
    ),
}


def sections(found: Found) -> list[str]:
    """The tables of all parts."""
    lines: list[str] = []
    if "tables" in found:
        lines += ["## One network for all levels (tables 1 to 3)", ""]
        for task, rows in found["tables"].items():
            lines += task_table(task, rows)
    for part in [part for part in RIVALS if part in found]:
        names = list(next(iter(found[part].values())))
        figures = [[f"{level:g}", *(number(row[name]) for name in names)] for level, row in found[part].items()]
        title, words = RIVALS[part]
        lines += [title, "", words, "", *table(["255 sigma", *names], figures)]
    if "input" in found:
        shares = list(next(iter(found["input"].values())))
        figures = [[f"{level:g}", *(number(curve[share]) for share in shares), number(best_shares(curve))]
                   for level, curve in found["input"].items()]  # fmt: skip
        lines += ["## PSNR against the level that the network is told (figure 5)", ""]
        lines += table(["255 sigma", *(f"told x{share:g}" for share in shares), "best"], figures)
    if "blind" in found:
        lines += ["## Blind", "", "Classical estimates of the package, one for each picture.", ""]
        lines += pairs(found["blind"], "task, level", "told", "blind", ("blind", "told"))
    if "widths" in found:
        lines += [
            "## Slimmable and level-conditioned at once",
            "",
            "One network of three widths, all of them in each step.",
            "",
        ]
        for which, steps in SLIMMABLE_STEPS.items():
            lines += [f"Taught for {steps}:", ""]
            lines += pairs(found["widths"], "width, 255 sigma", which, "alone", (which, "alone"))
    return lines


def pairs(found: Mapping[Any, Rows], what: str, first: str, second: str, of: tuple[str, str]) -> list[str]:
    """The table of two columns and their difference ``of``."""
    rows = [[f"{key}, {level:g}", number(row[first]), number(row[second]), difference(row, *of)]
            for key, levels in found.items() for level, row in levels.items()]  # fmt: skip
    return table([what, first, second, "difference"], rows)


def write_report(
    path: Path,
    found: Found,
    costs: Mapping[str, Mapping[str, int]],
    scale: Mapping[str, Any],
    trained: Mapping[str, tuple[float, ...]],
    command: str,
    here: Environment,
) -> None:
    """Write ``path`` (Markdown), the same numbers beside it as JSON, and pictures where matplotlib is installed."""
    seeds = scale["seeds"]
    lines = [
        "# HyperRes",
        "",
        f"A small reproduction: {scale['blocks']} blocks where the paper has 16, half its stream, the trunk's output added to",
        "the picture (not the paper's, but learned far faster), free pictures in place of DIV2K.",
        f"{scale['steps']:,} steps for every network where the paper has 1,000,000, {scale['batch']} crops of {scale['crop']}",
        f"pixels a step and level. Scores: the first {scale['limit']} pictures of each set, float32, the level told. Seeds: "
        f"{', '.join(map(str, seeds))}.",
        "",
        "The paper's columns are its own: 16 blocks; its noise is clipped and truncated to 8 bits, ours (protocol `rgb-u8`) is",
        "neither, so that only the gaps may be compared, not the figures.",
        "",
        f"`{command}`",
        "",
        f"{here.cpu}, {here.threads} thread(s), torch {here.torch}, commit {here.commit}, {here.date}.",
        "",
        "## What the paper claims, and what these numbers say",
        "",
        RULE.replace("at least 0.01 dB", "at least what the claim asks for, or 0.01 dB,"),
        "",
        *table(["claim", "verdict"], [list(pair) for pair in verdicts(found, trained)]),
        *sections(found),
        "## Networks",
        "",
        *table(["network", "MACs/px", "stored parameters"],
               [[kind, f"{cost['macs_per_pixel']:,}", f"{cost['parameters']:,}"] for kind, cost in costs.items()]),
    ]  # fmt: skip
    pictures = draw(path, found)
    lines += [f"![{name}]({name})" for name in pictures]
    with whole_file(path) as temporary:
        temporary.write_text("\n".join(lines).rstrip() + "\n")
    with whole_file(path.with_suffix(".json")) as temporary:
        content = {"environment": here.to_json(), "command": command, "scale": dict(scale), "costs": costs, **found}
        temporary.write_text(json.dumps(content, indent=1, default=str))


def draw(path: Path, found: Found) -> list[str]:
    """Draw what is a curve beside ``path``; gives the files' names, none where matplotlib is not installed."""
    curves: dict[str, tuple[str, dict[str, dict[float, float]]]] = {}
    for part in [part for part in RIVALS if part in found]:
        rows = found[part]
        lines = {name: {level: statistics.fmean(row[name]) for level, row in rows.items()}
                 for name in next(iter(rows.values()))}  # fmt: skip
        curves[part] = ("255 sigma", lines)
    if "input" in found:
        lines = {f"255 sigma = {level:g}": {share: statistics.fmean(values) for share, values in curve.items()}
                 for level, curve in found["input"].items()}  # fmt: skip
        curves["input"] = ("told / true", lines)
    names: list[str] = []
    try:
        figures = optional_module("matplotlib.figure", needed_for="a plot", install=BENCH_EXTRA)
    except GrainwiseError:
        return names
    for kind, (axis, each) in curves.items():
        figure = figures.Figure(figsize=(6, 4))
        axes = figure.subplots()
        for label, points in each.items():
            axes.plot(list(points), list(points.values()), marker="o", label=label)
        axes.set(xlabel=axis, ylabel="PSNR, dB")
        axes.grid(alpha=0.3)
        axes.legend()
        names.append(f"{path.stem}-{kind}.png")
        figure.savefig(path.with_name(names[-1]), dpi=110, bbox_inches="tight")
    return names
