"""The report of benchmarks/hyperres.py: tables with the paper's numbers beside ours, verdicts, pictures."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resumable_runs import judge

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

Found = Mapping[str, Any]


def best_share(curve: Mapping[float, float]) -> float:
    """Where PSNR against the told share is greatest: the top of the parabola through the best share and its neighbours."""
    shares = sorted(curve)
    top = max(range(len(shares)), key=lambda i: curve[shares[i]])
    if top in (0, len(shares) - 1):
        return shares[top]
    (a, b, c), (x, y, z) = (shares[top - 1 : top + 2], [curve[s] for s in shares[top - 1 : top + 2]])
    left, right = (b - a) * (y - z), (b - c) * (y - x)
    return b if left == right else b - 0.5 * ((b - a) * left - (b - c) * right) / (left - right)


def verdicts(found: Found, trained: Mapping[str, tuple[float, ...]]) -> list[tuple[str, str]]:
    """(claim, what our numbers say)."""
    told: list[tuple[str, str]] = []
    for task, rows in found.get("tables", {}).items():
        gaps = [row["hyper"] - row["dedicated"] for row in rows.values() if "dedicated" in row]
        mean = statistics.fmean(gaps)
        claim = f"{task}: one hyper-network within {NEAR:g} dB of {len(gaps)} networks' mean, equal steps a network"
        told.append((claim, judge([mean], least=-NEAR, told=f"{mean:+.3f} dB; worst level {min(gaps):+.3f}")))
    if "between" in found:
        ends = trained["denoise"][0], trained["denoise"][-1]
        inside = [level for level in found["between"] if ends[0] < level < ends[1] and level not in trained["denoise"]]
        outside = [level for level in found["between"] if not ends[0] <= level <= ends[1]]
        for where, levels in (("between", inside), ("outside", outside)):
            for rival in ("AdaFM", "DNI"):
                gains = [found["between"][level]["hyper"] - found["between"][level][rival] for level in levels]
                shown = ", ".join(f"{gain:+.2f} at {level:g}" for gain, level in zip(gains, levels, strict=True))
                told.append((f"{where} the trained noise levels it beats {rival}", judge([min(gains)], told=shown)))
    if "input" in found:
        best = {level: best_share(curve) for level, curve in found["input"].items()}
        shown = ", ".join(f"{share:.2f} of {level:g}" for level, share in best.items())
        far = max(abs(share - 1) for share in best.values())
        told.append(
            (
                f"the best input level lies within {100 * TOLERANCE:g} % of the true one",
                judge([-far], least=-TOLERANCE, told=shown),
            )
        )
    for task, rows in found.get("blind", {}).items():
        costs = {level: row["told"] - row["blind"] for level, row in rows.items()}
        mean, worst = statistics.fmean(costs.values()), max(costs, key=lambda level: costs[level])
        shown = f"mean {mean:+.3f} dB, most {costs[worst]:+.3f} at {worst:g}"
        claim = f"{task}: blind costs at most {BLIND:g} dB, mean over the levels"
        told.append((claim, judge([-mean], least=-BLIND, told=shown)))
    if "widths" in found:
        for width, rows in found["widths"].items():
            gap = statistics.fmean(row["slimmable"] - row["alone"] for row in rows.values())
            claim = f"slimmable and hyper: width {width} within {NEAR:g} dB of a hyper-network of that width alone"
            shown = f"{gap:+.3f} dB, mean over {len(rows)} noise levels"
            told.append((claim, judge([gap], least=-NEAR, told=shown)))
    return told


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def task_table(task: str, rows: Mapping[float, Mapping[str, float]]) -> list[str]:
    """Ours and the paper's at every level that either has."""
    published = PUBLISHED[task]
    lines = []
    for level in sorted({*rows, *published}):
        ours, theirs = rows.get(level, {}), published.get(level)
        gap = f"{ours['hyper'] - ours['dedicated']:+.2f}" if "dedicated" in ours else ""
        paper = ["", "", ""] if theirs is None else [*map(number, theirs), f"{theirs[1] - theirs[0]:+.2f}"]
        lines.append([f"{level:g}", number(ours.get("dedicated")), number(ours.get("hyper")), gap, *paper])
    head = ["level", "own network, ours", "hyper, ours", "gap, ours", "own, paper", "hyper, paper", "gap, paper"]
    return [f"### {TITLES[task]}", "", *table(head, lines)]


def sections(found: Found) -> list[str]:
    """The tables of all parts."""
    lines: list[str] = []
    if "tables" in found:
        lines += ["## One network for all levels (tables 1 to 3)", ""]
        for task, rows in found["tables"].items():
            lines += task_table(task, rows)
    if "between" in found:
        rows = [[f"{level:g}", *(number(row[name]) for name in ("hyper", "AdaFM", "DNI"))]
                for level, row in found["between"].items()]  # fmt: skip
        lines += ["## Between and outside the trained levels", ""]
        lines += ["AdaFM and DNI are taught at the least and the greatest of the hyper-network's levels.", ""]
        lines += table(["255 sigma", "hyper", "AdaFM", "DNI"], rows)
    if "input" in found:
        shares = list(next(iter(found["input"].values())))
        rows = [[f"{level:g}", *(number(curve[share]) for share in shares), f"{best_share(curve):.2f}"]
                for level, curve in found["input"].items()]  # fmt: skip
        lines += ["## PSNR against the level that the network is told (figure 5)", ""]
        lines += table(["255 sigma", *(f"told x{share:g}" for share in shares), "best"], rows)
    if "blind" in found:
        rows = [[f"{task} {level:g}", number(row["told"]), number(row["blind"]), f"{row['blind'] - row['told']:+.3f}"]
                for task, levels in found["blind"].items() for level, row in levels.items()]  # fmt: skip
        lines += ["## Blind", "", "Classical estimates of the package, one for each picture.", ""]
        lines += table(["task, level", "told", "blind", "difference"], rows)
    if "widths" in found:
        rows = [[f"{width}, {level:g}", number(row["slimmable"]), number(row["alone"]),
                 f"{row['slimmable'] - row['alone']:+.3f}"]
                for width, levels in found["widths"].items() for level, row in levels.items()]  # fmt: skip
        lines += ["## Slimmable and level-conditioned at once", ""]
        lines += table(["width, 255 sigma", "one slimmable", "of that width alone", "difference"], rows)
    return lines


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
    size = "; ".join(f"{task} {cost['macs_per_pixel']:,} MACs/px, {cost['parameters']:,} stored parameters"
                     for task, cost in costs.items())  # fmt: skip
    limit = "all pictures" if scale["limit"] is None else f"the first {scale['limit']} pictures"
    lines = [
        "# HyperRes",
        "",
        f"A small reproduction: {scale['blocks']} blocks where the paper has 16, half its stream, {scale['steps']:,} steps for",
        f"every network where it has 1,000,000, {scale['batch']} crops of {scale['crop']} pixels a step and level, free",
        f"pictures in place of DIV2K, {limit} of each set, float32, the level told. {size}.",
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
        "Every network was trained once, from one seed: the figures are for or against a claim, and decide none.",
        "",
        *table(["claim", "verdict"], [list(pair) for pair in verdicts(found, trained)]),
        *sections(found),
    ]
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
    if "between" in found:
        rows = found["between"]
        lines = {name: {level: row[name] for level, row in rows.items()} for name in ("hyper", "AdaFM", "DNI")}
        curves["levels"] = ("255 sigma", lines)
    if "input" in found:
        curves["input"] = ("told / true", {f"255 sigma = {level:g}": curve for level, curve in found["input"].items()})
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
