"""The report of benchmarks/adaptive.py: tables and verdicts from its numbers, none written by hand."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from adaptive_pictures import HALOS, halo_price

PAYS_DB, PAYS_SHARE = 0.02, 0.05
"""Routing pays where it gains so many dB at equal multiply-adds, or reaches the same PSNR for this share less."""
HALF, LEAST, MOST_OVERHEAD = 0.5, -0.01, 0.03
"""The aims: the share of the oracle's gain, the least gain in dB, and the share of the time that routing takes."""
PREDICTOR = "gain, texture and tap"
NAMES = {
    "mixed": "all pictures with all noises as one set",
    "white": "sigma 10, 25 and 50 as one set",
    "camera": "camera noise",
    "held out, white": "the training pictures' kind, held out: sigma 10, 25 and 50 as one set",
}

OBJECTIVES = {"psnr": "mean PSNR", "error": "total squared error"}

Rows = list[dict[str, Any]]


def report(found: dict[str, Any]) -> str:
    """The whole report."""
    lines = ["# Where a budget is better spent than evenly", ""]
    if "pictures" in found:
        lines += pictures(found["pictures"])
    if "cells" in found:
        lines += cells(found["cells"])
    return "\n".join(lines)


def of(scores: Rows, router: str) -> Rows:
    """The rows of one router, by budget."""
    return [row for row in scores if row["router"] == router]


def mean(rows: Iterable[dict[str, Any]], key: str) -> float:
    """The mean of one number over budgets."""
    return statistics.fmean(row[key] for row in rows)


def pays(rows: Rows) -> bool:
    """Whether a router pays, by the means over the budgets."""
    return mean(rows, "gain") >= PAYS_DB or mean(rows, "saved") >= PAYS_SHARE


def verdicts(part: dict[str, Any]) -> list[str]:
    """What the numbers of the pictures say."""
    heads = ["set", "objective", "predictor, dB", "least and most", "at equal seconds", "fewer MACs"]
    heads += ["oracle, dB", "fewer MACs", "DDS-Net's gate, dB", "it pays"]
    lines = [
        f"Routing pays where it gains {PAYS_DB} dB at equal MACs/px, or has the same PSNR for {100 * PAYS_SHARE:.0f} % less, "
        "by the mean of the five budgets:",
        "",
        *table_head(heads, words=2),
    ]
    for name, words in NAMES.items():
        for objective, said in OBJECTIVES.items():
            scores = part["sets"][name]["scores"][objective]
            rows, best, gate = (of(scores, router) for router in (PREDICTOR, "oracle", "gate"))
            gains = [row["gain"] for row in rows]
            found = [words, said, f"{mean(rows, 'gain'):+.3f}", f"{min(gains):+.3f} to {max(gains):+.3f}"]
            found += [f"{mean(rows, 'gain_seconds'):+.3f}", f"{100 * mean(rows, 'saved'):.0f} %"]
            found += [f"{mean(best, 'gain'):+.3f}", f"{100 * mean(best, 'saved'):.0f} %"]
            found += [f"{mean(gate, 'gain'):+.3f}" if gate else "-", "**yes**" if pays(rows) else "no"]
            lines.append(table_row(found))
    return [*lines, "", *(aim(part, objective) for objective in OBJECTIVES), time_aim(part)]


def aim(part: dict[str, Any], objective: str) -> str:
    """Whether half of the oracle's gain is reached, and nothing lost."""
    scores = part["sets"]["mixed"]["scores"][objective]
    pairs = zip(of(scores, PREDICTOR), of(scores, "oracle"), strict=True)
    shares = [one["gain"] / best["gain"] for one, best in pairs]
    least, name = min(
        (row["gain"], name) for name, one in part["sets"].items() for row in of(one["scores"][objective], PREDICTOR)
    )
    return (
        f"- By {OBJECTIVES[objective]}: half of the oracle's gain on all pictures is reached at "
        f"{sum(one >= HALF for one in shares)} of {len(shares)} budgets "
        f"({', '.join(f'{100 * one:.0f} %' for one in shares)}). At worst it is {least:+.3f} dB from uniform "
        f"({NAMES.get(name, f'sigma {name}')}): the aim of never more than 0.01 below is "
        f"{'reached' if least >= LEAST else 'missed'}."
    )


def time_aim(part: dict[str, Any]) -> str:
    """Whether the reading is quick enough."""
    taken = [overhead(part, row) for row in of(part["sets"]["mixed"]["scores"]["psnr"], PREDICTOR)]
    late = sum(one >= MOST_OVERHEAD for one in taken)
    return (
        f"- The reading takes {', '.join(f'{100 * one:.1f} %' for one in taken)} of the time at the five budgets, on a "
        f"picture of 768x512; less on larger ones. The aim of less than 3 % is {f'missed at {late}' if late else 'reached'}."
    )


def table_head(heads: Sequence[str], *, words: int) -> list[str]:
    """The first two lines of a table whose first ``words`` columns hold words."""
    return [table_row(heads), "|" + "---|" * words + "---:|" * (len(heads) - words)]


def table_row(values: Iterable[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(values)} |"


def overhead(part: dict[str, Any], row: dict[str, Any]) -> float:
    """Seconds of the reading beside those of the plans that one plan for all would take at equal MACs."""
    costs, seconds = part["costs"], part["seconds"]
    at = max(i for i, cost in enumerate(costs) if cost <= row["macs"] or i == 0)
    after = min(at + 1, len(costs) - 1)
    way = 0.0 if after == at else (row["macs"] - costs[at]) / (costs[after] - costs[at])
    spent: float = seconds[at] + way * (seconds[after] - seconds[at])
    read: float = part["reading"]
    return read / spent


def about_pictures(told: dict[str, Any]) -> list[str]:
    """Which commit measured, and which counted, where these differ."""
    machine = f"{told['cpu']}, {told['threads']} thread(s), {told['dtype']}"
    if "measured" not in told:
        lines = [f"Commit {told['commit']}, {machine}."]
        if "saved" in told:
            lines += [
                f'"Fewer MACs" was counted anew by the rule of commit {told["saved"]}, from the PSNR and MACs/px that were',
                "reached and the kept tables of errors; no network ran and no router was fitted again.",
            ]
        return lines
    return [
        f"What the networks leave and their seconds are kept from commit {told['measured']}, {machine}; pictures were",
        f"routed and counted anew from them at commit {told['commit']} (`--kept`).",
    ]


def pictures(part: dict[str, Any]) -> list[str]:
    """Pictures and tiles."""
    told = part["about"]
    plans = ", ".join(f"{cost / 1e3:.1f}K" for cost in part["costs"])
    seconds = ", ".join(f"{1e6 * one:.3f}" for one in part["seconds"])
    lines = [
        *about_pictures(told),
        "",
        "## One plan for each picture",
        "",
        "A set of pictures may cost so many MACs/px on the mean, and each takes one of five plans of the shipped weights",
        f"({plans}; {seconds} processor seconds a megapixel).",
        "",
        "- Test pictures: CBSD68, Kodak24 and four large ones held out of the training; white noise of sigma 10, 25 and 50",
        "  (protocol rgb-u8), and the package's camera noise. The level is told; of camera noise its root mean square.",
        f"- The predictor and the gates learned from {part['learned']['count']} crops of 256x256 of the free training",
        "  pictures, of sigma 5 to 55, one in four with camera noise. What the predictor reads was chosen by halves of these",
        "  crops, but the first look at what routing gains was taken on the test pictures.",
        "- Objectives: the mean PSNR of the pictures, in which each counts alike; and the total squared error (the PSNR of",
        "  its mean), to which noisy pictures matter most.",
        '- "Uniform" is one plan for all pictures at the same MACs/px; two of the five budgets lie between plans, where it is',
        '  interpolated along the logarithm of the cost. "At equal seconds" counts the reading.',
        "",
        *verdicts(part),
        "",
    ]
    for name, one in part["sets"].items():
        lines += [f"### {NAMES.get(name, f'sigma {name}').capitalize()}: {one['count']} pictures", ""]
        lines += picture_table(one["scores"]["psnr"])
    lines += ["### By total squared error", ""]
    lines += error_table(part["sets"])
    lines += [
        "### Each picture by itself",
        "",
        "Above, a set is known before its first picture is restored. Here the price of a multiply-add (for a gate, its bias)",
        "is fixed beforehand, so that the learned crops cost the budget. What was spent, in K MACs/px, and the gain there:",
        "",
        *apart_table(part["apart"]),
    ]
    return [*lines, *tile_lines(part["tiles"])]


def picture_table(scores: Rows) -> list[str]:
    """Every router at every budget."""
    heads = ["K MACs/px", "uniform", "oracle", "predictor", "at equal seconds", "of the oracle's", "fewer MACs"]
    lines = table_head([*heads, "DDS-Net's gate", "reads level", "reads texture", "by chance"], words=0)
    for row in zip(
        *(of(scores, name) for name in ("oracle", PREDICTOR, "gate", "gain, level", "gain, texture", "chance")),
        strict=True,
    ):
        best, own, *others = row
        lines.append(table_row([*shared_cells(best, own), *(f"{other['gain']:+.3f}" for other in others)]))
    return [*lines, ""]


def shared_cells(best: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """What both objectives tell of the predictor beside the oracle."""
    return [
        f"{own['macs'] / 1e3:.1f}",
        f"{own['psnr'] - own['gain']:.3f}",
        f"{best['gain']:+.3f}",
        f"{own['gain']:+.3f}",
        f"{own['gain_seconds']:+.3f}",
        f"{100 * own['gain'] / best['gain']:.0f} %",
        f"{100 * own['saved']:.0f} %",
    ]


def error_table(sets: dict[str, Any]) -> list[str]:
    """The same by total squared error."""
    heads = ["set", "K MACs/px", "uniform", "oracle", "predictor", "at equal seconds", "of the oracle's", "fewer MACs"]
    lines = table_head(heads, words=1)
    for name in NAMES:
        scores = sets[name]["scores"]["error"]
        for best, own in zip(of(scores, "oracle"), of(scores, PREDICTOR), strict=True):
            lines.append(table_row([name, *shared_cells(best, own)]))
    return [*lines, ""]


def apart_table(part: dict[str, Rows]) -> list[str]:
    """Cost and gain where pictures come one by one."""
    budgets = sorted({row["budget"] for row in part["mixed"]})
    lines = [
        "| set | router | " + " | ".join(f"budget {budget / 1e3:.1f}" for budget in budgets) + " |",
        "|---|---|" + "---:|" * len(budgets),
    ]
    for name, rows in part.items():
        for router, told in (("gain", "predictor"), ("gate", "DDS-Net's gate")):
            cells = [f"{row['macs'] / 1e3:.1f}: {row['gain']:+.3f}" for row in of(rows, router)]
            lines.append(f"| {name} | {told} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def tile_lines(part: dict[str, Any]) -> list[str]:
    """Tiles of one picture, with the price of their halo."""
    heads = ["noise", "tile", "oracle, dB", "fewer MACs", "predictor, dB", "fewer MACs"]
    lines = [
        "## One plan for each tile",
        "",
        "Tiles of one picture, 24 of 768x512 (Kodak) and the four large ones; the picture's squared error counts.",
        "Whole-picture results are cut into tiles, so this is a bound: no tile reads a halo, none is seen at its border.",
        f"Beside it, what a halo of {HALOS[0]} pixels (a blend) or {HALOS[1]} (exact) costs more. It pays where the predictor",
        "saves more than the first.",
        "",
        *table_head([*heads, *(f"a halo of {halo}" for halo in HALOS), "it pays"], words=1),
    ]
    for noise, sides in part.items():
        for side, scores in sides.items():
            best, own = of(scores, "oracle"), of(scores, PREDICTOR)
            prices = [halo_price(int(side), halo) for halo in HALOS]
            found = [noise, side]
            for rows in (best, own):
                found += [f"{mean(rows, 'gain'):+.3f}", f"{100 * mean(rows, 'saved'):.0f} %"]
            found += [f"+{100 * price:.0f} %" for price in prices]
            worth = 1 / (1 - mean(own, "saved")) - 1
            lines.append(table_row([*found, "yes" if worth > prices[0] else "no"]))
    return [*lines, "", "dB and shares: means over the five budgets and the pictures.", ""]


def cells(part: dict[str, Any]) -> list[str]:
    """Width that differs from cell to cell in one pass."""
    told = part["about"]
    rows = [row for table in part["tables"] for row in table["rows"]]
    gain = {kind: [row[kind] - row["uniform"] for row in rows] for kind in ("oracle", "predicted")}
    lines = [
        "## One width for each cell, in one pass",
        "",
        f"Commit {told['commit']}, {told['cpu']}, {told['threads']} thread(s), float32, {told['pictures']} pictures of",
        "CBSD68 and Kodak24, protocol rgb-u8, level told. The finest level has another width from cell to cell of 64x64",
        "pixels (docs/decisions/0006).",
        "",
        f"- The oracle gains {min(gain['oracle']):+.3f} to {max(gain['oracle']):+.3f} dB over one plan everywhere at equal",
        f"  MACs/px, the predictor {min(gain['predicted']):+.3f} to {max(gain['predicted']):+.3f}, mean "
        f"{statistics.fmean(gain['predicted']):+.3f}. **It "
        f"{'pays' if statistics.fmean(gain['predicted']) >= PAYS_DB else 'does not pay'}.**",
        *(f"- Seconds, {name.replace('_', ' ')}: {value:.2f}" for name, value in part["speed"].items()),
        "",
    ]
    for table in part["tables"]:
        first, last = table["plans"]
        lines += [
            f"### {first} to {last}",
            "",
            "| sigma | K MACs/px | uniform | predicted | gain | oracle | gain | by chance |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|",
            *(
                f"| {r['sigma']} | {r['cost'] / 1e3:.1f} | {r['uniform']:.3f} | {r['predicted']:.3f} "
                f"| {r['predicted'] - r['uniform']:+.3f} | {r['oracle']:.3f} | {r['oracle'] - r['uniform']:+.3f} "
                f"| {r['chance'] - r['uniform']:+.3f} |"
                for r in table["rows"]
            ),
            "",
        ]
    return lines
