"""Time limits: what was allowed, what was planned, and what pictures of 0.3 to 50 megapixels really took.

    grainwise bench --calibrate
    python benchmarks/time_limits.py --data ../shared/data/test/kodak-full

The limits of a picture are multiples of the least time that it is said to take, so that every plan has its turn. A limit
is met where the call took at most 1.1 times as long. One that lies below the least time must be refused with that time; such an
answer counts only where it is honest: the fastest run is tried, and takes at least 0.8 of what was named. Writes
docs/results/time-limits.md and .json.
"""

import argparse
import json
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from grainwise.cli.restorers import pictures_in
from grainwise.core.commit import current_commit
from grainwise.core.errors import BudgetError
from grainwise.core.files import whole_file
from grainwise.evaluation.environment import environment
from grainwise.runtime.denoiser import Denoiser

FACTORS = (0.8, 1.15, 1.6, 2.5, 5.0)
MET, HONEST = 1.1, 0.8


def picture(crops: list[np.ndarray], megapixels: float) -> np.ndarray:
    """A mosaic of crops, 4:3, uint8, with noise of sigma 15."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    rng, side = np.random.default_rng(0), crops[0].shape[0]
    out = np.empty((height, width, 3), np.uint8)
    count = 0
    for top in range(0, height, side):
        for left in range(0, width, side):
            place = out[top : top + side, left : left + side]
            clean = crops[count % len(crops)][: place.shape[0], : place.shape[1]]
            place[:] = (clean + rng.normal(0, 15, clean.shape)).clip(0, 255).round()
            count += 1
    return out


def crops_of(data: Path | None) -> list[np.ndarray]:
    """Square crops of the photographs in a folder, or made ones."""
    if data is not None:
        found = [pixels for _, pixels in pictures_in(data) if pixels.shape[2] == 3]
        side = min(min(pixels.shape[:2]) for pixels in found)
        return [pixels[:side, :side] for pixels in found]
    rows, columns = np.mgrid[:512, :512] / 64
    return [
        (128 + 60 * np.sin(rows * k) * np.cos(columns))[..., None].repeat(3, 2).astype(np.uint8) for k in range(1, 5)
    ]


def measure(denoiser: Denoiser, pixels: np.ndarray, factor: float) -> dict[str, Any]:
    """One call under a limit, or its refusal and the fastest call."""
    size = pixels.shape[:2]
    least = denoiser.forecast(size, pixels.nbytes, max_seconds=1e9).least_seconds
    assert least is not None
    cheapest = min(plan.macs_per_pixel for plan in denoiser.weights.card.plans)
    limit, megapixels = factor * least, size[0] * size[1] / 1e6
    try:
        planned = denoiser.forecast(size, pixels.nbytes, max_seconds=limit)
    except BudgetError as error:
        fastest = denoiser.restore(pixels, cheapest).seconds
        met = limit < least and fastest >= HONEST * least
        told = {"refused": str(error), "least": least, "fastest": fastest, "met": met}
        return {"megapixels": megapixels, "limit": limit, **told}
    result = denoiser.restore(pixels, max_seconds=limit)
    return {
        "megapixels": megapixels,
        "limit": limit,
        "planned": planned.seconds,
        "actual": result.seconds,
        "ratio": result.seconds / limit,
        "met": factor >= 1 and result.seconds <= MET * limit,
        "tiles": result.tiles,
        "macs_per_pixel_planned": planned.macs_per_pixel,
        "macs_per_pixel": result.macs_per_pixel,
        "plans": {str(plan): tiles for plan, tiles in result.plans.items()},
    }


def words(row: dict[str, Any]) -> str:
    """A row in one line."""
    start = f"{row['megapixels']:6.2f} MP, limit {row['limit']:.3f} s"
    if "refused" in row:
        return f"{start}, refused: at least {row['least']:.3f}; the fastest took {row['fastest']:.3f}"
    return f"{start}, planned {row['planned']:.3f}, actual {row['actual']:.3f}: {row['ratio']:.2f}"


def in_table(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [f"{row['megapixels']:.1f}", f"{row['limit']:.3f}"]
    if "refused" in row:
        cells += [f"refused: at least {row['least']:.3f}", f"{row['fastest']:.3f}, the fastest", *[""] * 5]
    else:
        cells += [f"{row['planned']:.3f}", f"{row['actual']:.3f}", f"{row['ratio']:.2f}", f"{row['tiles']}"]
        cells += [f"{row['macs_per_pixel_planned']:.0f}", f"{row['macs_per_pixel']:.0f}", f"{len(row['plans'])}"]
    return f"| {' | '.join(cells)} |"


def table(rows: list[dict[str, Any]], machine: str, dtype: str) -> str:
    """The rows in Markdown, with what they come to."""
    ran, refused = ([row for row in rows if ("refused" in row) == kind] for kind in (False, True))
    ratios, truth = [row["ratio"] for row in ran], [row["fastest"] / row["least"] for row in refused]
    met, kept = sum(row["met"] for row in rows), sum(row["met"] for row in ran)
    several = sum(len(row["plans"]) > 1 for row in ran)
    lines = [
        "# Time limits",
        "",
        f"`{shlex.join(('python', *sys.argv))}`, {machine}, {dtype}. Met: at most {MET} times the limit; or",
        "refused before the work, where the limit lies below the least possible time, and the fastest run takes at least",
        f"{HONEST} of the time named.",
        "",
        f"{met} of {len(rows)} met: {kept} of {len(ran)} runs, {met - kept} of {len(refused)} refusals. Actual over limit:",
        f"median {statistics.median(ratios):.2f}, largest {max(ratios):.2f}. More than one plan: {several}.",
    ]
    if refused:
        least, most = min(truth), max(truth)
        lines += [
            f"The fastest run over the least time named: median {statistics.median(truth):.2f}, {least:.2f} to {most:.2f}.",
        ]
    lines += [
        "",
        "| MP | limit s | planned s | actual s | actual / limit | tiles | MACs/px planned | run | plans |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(in_table(row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of photographs; made pictures without it")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--smallest", type=float, default=0.3, help="megapixels")
    parser.add_argument("--largest", type=float, default=50, help="megapixels")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    denoiser = Denoiser.from_pretrained(dtype=args.dtype)
    denoiser.notify = print
    crops, rows = crops_of(args.data), []
    denoiser.restore(picture(crops, 0.1), max_seconds=1e9)
    for megapixels in np.geomspace(args.smallest, args.largest, args.pictures):
        pixels = picture(crops, float(megapixels))
        for factor in FACTORS:
            row = measure(denoiser, pixels, factor)
            rows.append(row)
            print(words(row), flush=True)
    here = environment(commit=current_commit())
    machine = (
        f"{here.cpu}, {here.threads} threads of {here.cores} cores, load {here.load}, torch {here.torch}, {here.commit}"
    )
    dtype = str(denoiser.dtype).removeprefix("torch.")
    with whole_file(args.out / "time-limits.json") as temporary:
        told = {"environment": here.to_json(), "dtype": dtype, "rows": rows}
        temporary.write_text(json.dumps(told, indent=1) + "\n")
    with whole_file(args.out / "time-limits.md") as temporary:
        temporary.write_text(table(rows, machine, dtype))
    met = sum(row["met"] for row in rows)
    print(f"{met} of {len(rows)} limits met; {args.out / 'time-limits.md'}")


if __name__ == "__main__":
    main()
