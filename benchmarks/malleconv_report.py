"""The page of `malleconv.py`: tables of its rows, and verdicts that follow from them."""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from resumable_runs import CLEAR, RULE, interval, judge

from grainwise.core.commit import current_commit
from grainwise.core.files import whole_file
from grainwise.evaluation.environment import environment

Row = dict[str, Any]
Verdict = tuple[str, str]

FASTER, LEANER, NATIVE_FASTER, NATIVE_MAPS = 2, 4, 5, 2
"""The bounds: per_tap against unfold in time and memory, native against unfold in time, maps of memory that native may take."""
MARGIN = 0.03
"""Two networks whose seconds differ by a smaller share than this are equally fast."""


def operator_verdicts(operator: dict[str, Any]) -> list[Verdict]:
    """Whether per_tap, native and triton hold their bounds, forward and forward with backward, in float32."""
    rows = {(row["form"], row["direction"]): row for row in operator["rows"] if row["dtype"] == "float32"}
    feature = 4 * operator["channels"] * operator["size"] ** 2 / 2**20
    told: list[Verdict] = []
    for direction, words in (("forward", "forward"), ("backward", "forward and backward")):
        naive = rows.get(("unfold", direction))
        for form in ("per_tap", "native", "triton"):
            row = rows.get((form, direction))
            if naive is None or row is None:
                continue
            faster, leaner = (naive[figure] / row[figure] for figure in ("milliseconds", "extra_mib"))
            least = FASTER if form == "per_tap" else NATIVE_FASTER
            told.append((f"{form} is {least}x as fast as unfold, {words}", bound(faster >= least, f"{faster:.1f}x")))
            if form == "per_tap":
                claim = f"{form} takes a {LEANER}th of the memory of unfold, {words}"
                told.append((claim, bound(leaner >= LEANER, f"1/{leaner:.1f}")))
                continue
            maps = (row["extra_mib"] - row["gradients_mib"]) / feature
            beside = "beside the gradients of its inputs" if row["gradients_mib"] else "its result included"
            claim = f"{form} takes at most {NATIVE_MAPS} feature maps, {words}, {beside}"
            told.append((claim, bound(maps <= NATIVE_MAPS, f"{maps:.2f}")))
        static = rows.get(("static depthwise convolution", direction))
        if operator["device"] == "cuda" and static is not None and ("triton", direction) in rows:
            ratio = rows["triton", direction]["milliseconds"] / static["milliseconds"]
            told.append((f"triton against a static depthwise convolution, {words}", f"{ratio:.2f}x its time"))
    return told


def bound(held: bool, figure: str) -> str:
    """A verdict on one measured figure."""
    return f"{'holds' if held else 'does not hold'} ({figure})"


def operator_section(operator: dict[str, Any]) -> list[str]:
    """What `malleable_operator.py` measured."""
    shape = " x ".join(str(operator[name]) for name in ("channels", "size", "size"))
    errors = ", ".join(f"{form} {error:.1e}" for form, error in operator["error"].items())
    lines = [
        f"1 x {shape}, 3x3 kernels, stride {operator['stride']}; {operator['machine']}, {operator['threads']} thread(s), "
        f"torch {operator['torch']}, median of {operator['runs']} runs, each form in a process of its own and in the memory "
        "layout that suits it best. Extra memory is the rise of the peak above the inputs (with backward, the gradient of the "
        f"result is one of them); result and gradients are in it. Greatest difference from float64: {errors}.",
        "",
        "| form | direction | dtype | ms | best ms | extra MiB | of it gradients |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in operator["rows"]:
        direction = "forward" if row["direction"] == "forward" else "forward, backward"
        lines.append(
            f"| {row['form']} | {direction} | {row['dtype']} | {row['milliseconds']:.1f} | {row['best_milliseconds']:.1f} "
            f"| {row['extra_mib']:.0f} | {row['gradients_mib']:.0f} |"
        )
    return [*lines, ""]


def arms(rows: Iterable[Row], group: str) -> dict[str, list[Row]]:
    """The rows of ``group`` by arm, in order of appearance, seed after seed."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["group"] == group:
            found.setdefault(row["arm"], []).append(row)
    return found


def gains(base: Sequence[Row], other: Sequence[Row]) -> list[float]:
    """By how many dB ``other`` beats ``base``, mean over all scores, for each seed that both have."""
    by_seed = {row["seed"]: row["psnr"] for row in base}
    return [
        statistics.fmean(row["psnr"][cell] - by_seed[row["seed"]][cell] for cell in row["psnr"])
        for row in other
        if row["seed"] in by_seed
    ]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean, and the standard deviation where there are several."""
    more = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{more}"


def table(rows: Sequence[Row], group: str, *, against: str = "") -> list[str]:
    """The arms of ``group``; with ``against``, each one's gain over that arm."""
    found = arms(rows, group)
    cells = list(next(iter(found.values()))[0]["psnr"])
    head = ["network", "MACs/px", "parameters", "steps", "minutes", *cells]
    head += ["gain over the first"] if against else []
    head += ["s/MP", "peak MiB", "gates"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for arm, own in found.items():
        first = own[0]
        line = [arm, f"{first['macs_per_pixel']:,}", f"{first['parameters']:,}", str(first["steps"])]
        line.append(f"{statistics.fmean(row['seconds'] for row in own) / 60:.1f}")
        line += [spread([row["psnr"][cell] for row in own]) for cell in cells]
        if against:
            more = gains(found[against], own)
            line.append("" if arm == against or not more else f"{statistics.fmean(more):+.3f}")
        seconds, peak = first.get("seconds_per_megapixel"), first.get("peak_mib")
        line += ["" if seconds is None else f"{seconds:.3f}", "" if peak is None else f"{peak:.0f}"]
        line.append(" ".join(f"{gate:g}" for gate in first["gates"]))
        lines.append("| " + " | ".join(line) + " |")
    return [*lines, ""]


def network_verdicts(rows: Sequence[Row], group: str) -> list[Verdict]:
    """The first arm of ``group``, MalleNet, against each of the others, at equal MACs/px and training time."""
    (name, own), *others = arms(rows, group).items()
    return [(f"{name} is better than {other}", judge(gains(theirs, own))) for other, theirs in others]


def added_verdicts(rows: Sequence[Row], group: str) -> list[Verdict]:
    """What one MalleConv does to a backbone: more PSNR for the same multiply-adds, and at what price in seconds."""
    found = arms(rows, group)
    bare, told = found["bare"], []
    for arm, claim in (
        ("narrowed, one MalleConv", "one MalleConv raises PSNR at equal MACs/px"),
        ("one MalleConv", "one MalleConv raises PSNR, its cost added"),
    ):
        if arm in found:
            own = found[arm]
            price = f"{own[0]['macs_per_pixel'] / bare[0]['macs_per_pixel']:.3f}x the MACs/px"
            if "seconds_per_megapixel" in own[0] and "seconds_per_megapixel" in bare[0]:
                price += f", {own[0]['seconds_per_megapixel'] / bare[0]['seconds_per_megapixel']:.2f}x the seconds"
            told.append((f"{group}: {claim} ({price})", judge(gains(bare, own))))
    if "narrowed, one MalleConv" in found and "seconds_per_megapixel" in bare[0]:
        own = found["narrowed, one MalleConv"]
        seconds = own[0]["seconds_per_megapixel"] / bare[0]["seconds_per_megapixel"]
        told.append((f"{group}: one MalleConv lowers the seconds at equal PSNR", faster(gains(bare, own), seconds)))
    return told


def faster(more: Sequence[float], seconds: float) -> str:
    """Whether a network takes fewer ``seconds``, a share of the other's, and loses no PSNR; ``more``: its gains in dB."""
    if not more:
        return "not measured"
    low, high = interval(more)
    told = f"{statistics.fmean(more):+.3f} dB, {seconds:.2f}x the seconds"
    if seconds > 1 - MARGIN or high <= -CLEAR:
        return bound(False, told)
    return bound(True, told) if low > -CLEAR else f"undecided ({told})"


def ablation_verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Whether each change of the base is an improvement."""
    (_, base), *others = arms(rows, "flat").items()
    return [(f"ablation, flat: better with {arm}", judge(gains(base, own))) for arm, own in others]


def sections(
    operators: Sequence[dict[str, Any]], results: dict[str, list[Row]], setup: dict[str, Any]
) -> tuple[list[str], list[Verdict]]:
    """All tables, and all verdicts."""
    lines: list[str] = []
    verdicts: list[Verdict] = []

    def pictures(limit: str) -> list[str]:
        return [f"The first {setup[limit]} pictures of a set.", ""] if setup[limit] else []

    for operator in operators:
        lines += [f"## The operator, {operator['device'].upper()}", "", *operator_section(operator)]
        verdicts += [(f"{claim} ({operator['device'].upper()})", word) for claim, word in operator_verdicts(operator)]
    if results.get("networks"):
        lines += [
            f"## MalleNet, equal MACs/px and {setup['minutes']:g} minutes of training",
            "",
            *pictures("networks_limit"),
        ]
        for group in dict.fromkeys(row["group"] for row in results["networks"]):
            lines += table(results["networks"], group)
            verdicts += network_verdicts(results["networks"], group)
    if results.get("added"):
        lines += ["## One MalleConv in a plain backbone, equal steps", "", *pictures("limit")]
        for group in dict.fromkeys(row["group"] for row in results["added"]):
            lines += [f"### {group}", "", *table(results["added"], group, against="bare")]
            verdicts += added_verdicts(results["added"], group)
    if results.get("ablation"):
        base = results["ablation"][0]["arm"]
        lines += ["## One choice of a MalleConv changed, equal steps", "", *pictures("limit")]
        lines += [f"In the flat backbone. The base: {base}. What differs by less than the spread says nothing.", ""]
        lines += table(results["ablation"], "flat", against=base)
        verdicts += ablation_verdicts(results["ablation"])
    return lines, verdicts


def write(
    path: Path, operators: Sequence[dict[str, Any]], results: dict[str, list[Row]], command: str, setup: dict[str, Any]
) -> None:
    """Write ``path`` (Markdown), and the same numbers beside it as JSON."""
    here = environment(commit=current_commit())
    lines, verdicts = sections(operators, results, setup)
    head = [
        "# MalleConv and MalleNet",
        "",
        "The paper's tables are not public to us: no number here is the paper's. PSNR in dB, protocol `rgb-u8`, level told "
        "where the network takes it, float32; mean over seeds ± standard deviation between them. Training: Muon, batch "
        f"{setup['batch']}, crops of {setup['crop']}, noise 0 to 55, minutes as they went by. Seconds and peak memory: "
        "float32, side by side on two pictures of Kodak24. MACs/px count the predictors, not the blending.",
        "",
        f"`{command}`",
        "",
        f"{here.cpu}, {here.threads} thread(s), torch {here.torch}, commit {here.commit}, {here.date}.",
        "",
        "## Claims",
        "",
        f"{RULE} A gain is the mean over all scores of its table. PSNR is equal where the gain is clear of -{CLEAR} dB, and "
        f"seconds are fewer from {100 * MARGIN:g} % on.",
        "",
        "| claim | verdict |",
        "|---|---|",
        *(f"| {claim} | {verdict} |" for claim, verdict in verdicts),
        "",
    ]
    with whole_file(path) as temporary:
        temporary.write_text("\n".join([*head, *lines]).rstrip() + "\n")
    kept = {"environment": here.to_json(), "command": command, "operator": list(operators), **results}
    kept["verdicts"] = [list(verdict) for verdict in verdicts]
    with whole_file(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(kept, indent=1) + "\n")
