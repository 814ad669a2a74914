"""The report of benchmarks/level_estimator.py: how far off each estimate is, and what that costs."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from level_estimator_tasks import CLASSICAL, EVERY, LEARNED, METHODS, ONE_CROP, SUBJECTS, TOLD
from resumable_runs import RULE, judge

from grainwise.core.files import whole_file
from grainwise.evaluation.environment import Environment
from grainwise.networks.level_estimator import CROP

PUBLISHED = 98.23
"""Per cent of correct estimates that the paper prints; its code counts those less than 1, and at most 2, off, of 255 sigma."""
COSTS = 0.05
"""dB that blind use may cost, mean over the levels."""
TITLES = {"denoise": "Noise, 255 sigma", "dejpeg": "JPEG, quality", "sr": "Super-resolution, scale"}
Found = Mapping[str, Mapping[str, Any]]
"""Task -> "training", "accuracy", "psnr" and "seconds"."""


def mean_of(levels: Mapping[str, Mapping[str, Mapping[str, float]]], method: str) -> dict[str, float]:
    """The figures of a method, mean over the levels."""
    return {key: statistics.fmean(row[method][key] for row in levels.values()) for key in ("error", "near", "within")}


def cells(row: Mapping[str, float]) -> str:
    """Of a table."""
    return f"{100 * row['near']:.1f} % | {100 * row['within']:.1f} % | {row['error']:.2f}"


def bounds(task: str) -> tuple[str, str]:
    """The headings of the two shares."""
    near, within = SUBJECTS[task].within
    return f"< {near:g} off", f"<= {within:g} off"


def summary(found: Found) -> Iterator[str]:
    """One table of all tasks."""
    yield "| task, protocol, pictures | method | near | within | mean absolute error | paper |"
    yield "|---|---|---:|---:|---:|---:|"
    for task, parts in found.items():
        for test, levels in parts["accuracy"].items():
            for method in METHODS:
                paper = (
                    f"{PUBLISHED} %" if task == "denoise" and test.startswith("clipped") and method == ONE_CROP else ""
                )
                yield f"| {task}, {test} | {method} | {cells(mean_of(levels, method))} | {paper} |"


def by_level(task: str, accuracy: Mapping[str, Any]) -> Iterator[str]:
    """The table of one task."""
    near, within = bounds(task)
    heads = [f"{method}: {head}" for method in METHODS for head in (near, within, "error")]
    yield f"| protocol, pictures | level | {' | '.join(heads)} |"
    yield f"|---|---:|{'---:|' * len(heads)}"
    for test, levels in accuracy.items():
        for level, row in levels.items():
            yield f"| {test} | {level} | {' | '.join(cells(row[method]) for method in METHODS)} |"


def costs(found: Found, limit: int) -> Iterator[str]:
    """dB lost by each way to tell the level, and the verdicts; nothing where no hyper-network was there."""
    found = {task: parts for task, parts in found.items() if parts["psnr"]}
    if not found:
        return
    seeds = max(len(row[TOLD]) for parts in found.values() for row in parts["psnr"].values())
    yield "## What the error costs"
    yield ""
    yield PRICE.format(limit=limit, seeds=seeds)
    yield f"| task, level | told {TOLD}, dB | {' | '.join(METHODS)} |"
    yield f"|---|---:|{'---:|' * len(METHODS)}"
    for task, parts in found.items():
        for level, row in parts["psnr"].items():
            lost = " | ".join(f"{statistics.fmean(row[way]) - statistics.fmean(row[TOLD]):+.3f}" for way in METHODS)
            yield f"| {task}, {level} | {statistics.fmean(row[TOLD]):.2f} | {lost} |"
    yield ""
    yield RULE
    yield ""
    yield "| claim | verdict |"
    yield "|---|---|"
    for task, parts in found.items():
        for way in METHODS:
            gains = lost_by(way, parts["psnr"])
            claim = f"{task}, {way}: blind costs at most {COSTS} dB, mean over the levels"
            yield f"| {claim} | {judge(gains, least=-COSTS, told=f'{statistics.fmean(gains):+.3f} dB')} |"
    yield ""


def lost_by(way: str, rows: Mapping[str, Mapping[str, Sequence[float]]]) -> list[float]:
    """dB that a network gains (below 0: loses) where it is told so in place of the truth, mean over the levels, by seed."""
    gains = [[told - true for told, true in zip(row[way], row[TOLD], strict=True)] for row in rows.values()]
    return [statistics.fmean(each) for each in zip(*gains, strict=True)]


def times(found: Found) -> Iterator[str]:
    """Processor time of each method."""
    yield "| task | picture | " + " | ".join(f"{method}, ms" for method in METHODS) + " |"
    yield f"|---|---|{'---:|' * len(METHODS)}"
    for task, parts in found.items():
        width, height = parts["seconds"]["picture"]
        each = " | ".join(f"{1e3 * parts['seconds'][method]:.0f}" for method in METHODS)
        yield f"| {task} | {width}x{height} | {each} |"


INTRODUCTION = """\
HyperRes (section 4.4) tells the level by a small network, taught with the mean absolute error. Here it is that network, at its
published size (64 channels, {crop}x{crop} pixels), one for each task, taught on free pictures on most of one core:
{trained},
of {crops} crops each (the paper: 1,000,000 crops of DIV2K, for noise). They saw noise of 0 to 100 (half of it clipped and
cut to 8 bits), qualities 95 to 5 (half luma; colour at half and at full resolution) and scales 1 to 6 (both kinds of bicubic),
and all between.

- **{grid}**: the mean over a grid of crops that covers the picture, as `grainwise estimate --estimator FILE` tells it.
- **{one}**: one crop, as the paper's code tells it. Every crop of the grid counts, so that no draw decides.
- **{classical}**: what the package tells by itself (`estimate_noise`, `estimate_jpeg` capped at 95, `estimate_scale`). For JPEG
  it knows the standard tables, with which these pictures were saved, and which the network has to find out.

`{command}`

{cpu}, {threads} thread(s), torch {torch}, commit {commit}, {date}. {pictures}
"""
SHARES = f"""\
Means over levels and pictures. "Near" is less than 1 off and "within" at most 2, for noise and JPEG, as the paper's code
counts. Scales run from 1 to 6, where within 2 says next to nothing: there "near" is less than 0.25 and "within" at most 0.5
off. The network answers nothing beyond the levels that it saw, which helps it at scale 6. The paper prints one figure,
{PUBLISHED} %, for noise, and names neither pictures nor levels nor which count it is.
"""
PRICE = """\
PSNR of the trained hyper-networks of benchmarks/hyperres.py ({seeds} seed(s); {limit} pictures a set; noise not clipped, JPEG
luma, OpenCV's bicubic), told the level, and what is lost where an estimate is told in its place.
"""


def page(found: Found, scale: Mapping[str, Any], command: str, where: Environment) -> Iterator[str]:
    """The lines of the report."""
    trained = ", ".join(
        f"{task} {parts['training']['steps']:,} steps ({parts['training']['seconds'] / 60:.0f} min)"
        for task, parts in found.items()
    )
    limit = scale["limit"]
    yield "# The level, blind"
    yield ""
    yield INTRODUCTION.format(
        crop=CROP,
        crops=EVERY * scale["crops"],
        trained=trained,
        grid=LEARNED,
        one=ONE_CROP,
        classical=CLASSICAL,
        command=command,
        cpu=where.cpu,
        threads=where.threads,
        torch=where.torch,
        commit=where.commit,
        date=where.date,
        pictures="All pictures of each set." if limit is None else f"The first {limit} pictures of each set.",
    )
    yield "## All levels"
    yield ""
    yield SHARES
    yield from summary(found)
    yield ""
    yield from costs(found, scale["psnr_limit"])
    yield "## Time"
    yield ""
    yield "Processor time for one picture, float32, the median of several runs on one thread."
    yield ""
    yield from times(found)
    for task, parts in found.items():
        yield ""
        yield f"## {TITLES[task]}"
        yield ""
        yield from by_level(task, parts["accuracy"])


def write_report(report: Path, found: Found, scale: Mapping[str, Any], command: str, where: Environment) -> None:
    """Write the page, and beside it the same as JSON."""
    with whole_file(report) as temporary:
        temporary.write_text("\n".join(page(found, scale, command, where)) + "\n")
    everything = {"command": command, "environment": where.to_json(), **scale, "tasks": found}
    with whole_file(report.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(everything, indent=1) + "\n")
