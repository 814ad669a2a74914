"""What a move of the slider costs, beside a restorer that is called anew: one run, one process, the methods taking turns.

    python benchmarks/live.py
    python benchmarks/live.py --model dejpeg --budgets best --sizes 1500x1000 --repeats 5

For each model, budget and picture: merging the kernels of a level; the first preview of a window that was never looked at; a
preview at a new level of a window that was prepared (and what preparing it takes, once); the window in full quality; and a
`Denoiser` or `JpegRestorer` that is called with a level that it does not hold, on the window alone and on the whole picture. No
level is asked twice. Levels are told, so that no time is spent on estimates. The pictures are examples/noisy.png, mirrored to
their size; for JPEG artifacts, saved at quality 30. `hyperres` is the published network with a second, narrow width, its
weights drawn at random (times do not depend on them, but how far previews are off does, so that is not told). Writes
docs/results/live.md and .json.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grainwise.core.commit import current_commit
from grainwise.core.files import whole_file
from grainwise.core.jpeg import through_jpeg
from grainwise.core.pictures import read_picture
from grainwise.evaluation.environment import environment
from grainwise.networks.checkpoint import Card, MeasuredPlan, Weights, load_weights
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.tasks import DEJPEG
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.denoiser import Denoiser
from grainwise.runtime.jpeg_restorer import JpegRestorer
from grainwise.runtime.live import LiveRestorer
from grainwise.runtime.tiles import Box

PICTURE = Path(__file__).parents[1] / "examples" / "noisy.png"
COLUMNS = {
    "merge": "merge",
    "first": "first preview",
    "prepare": "prepare, once",
    "preview": "preview",
    "window": "window, full quality",
    "fresh_window": "restorer, window",
    "fresh_whole": "restorer, whole",
}


def weights_of(model: str) -> Weights:
    """The weights of that name; for ``hyperres`` drawn at random."""
    if model != "hyperres":
        return load_weights(model)
    torch.manual_seed(0)
    network = HyperRes(stream=(16, 64)).eval().requires_grad_(False)
    ends = {"fast": network.space.narrowest, "best": network.space.widest}
    plans = tuple(MeasuredPlan(str(p), round(network.macs_per_pixel(p)), name=name) for name, p in ends.items())
    card = Card(licence="", data=(), recipe="", commit="", steps=0, seconds=0.0, device="cpu", plans=plans)
    return Weights(model, network, card)


def picture(width: int, height: int, task: str) -> np.ndarray:
    """The example, mirrored to that size; with its blocks where these shall be removed."""
    pixels = read_picture(PICTURE).pixels
    pixels = np.pad(
        pixels, [(0, max(0, height - len(pixels))), (0, max(0, width - pixels.shape[1])), (0, 0)], "symmetric"
    )
    pixels = np.ascontiguousarray(pixels[:height, :width])
    return through_jpeg(pixels, 30) if task == DEJPEG else pixels


def milliseconds(work: Callable[..., object], *given: object, **named: object) -> float:
    start = time.perf_counter()
    work(*given, **named)
    return 1e3 * (time.perf_counter() - start)


def values_of(live: LiveRestorer) -> Iterator[float]:
    """Levels of the middle of the slider, none twice, and none of those that `prepare` takes."""
    turn = 0.0
    while True:
        turn = (turn + 0.6180339887) % 1
        yield live._value(0.2 + 0.5 * turn)


def rms(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.sqrt(np.square(first.astype(float) - second).mean()))


def measure(weights: Weights, budget: str, pixels: np.ndarray, side: int, repeats: int, dtype: str) -> dict[str, Any]:
    """All times of one picture, in milliseconds."""
    kind = JpegRestorer if weights.network.facts.task == DEJPEG else Denoiser
    restorer = kind(weights, device="cpu", dtype=dtype)
    name = "quality" if kind is JpegRestorer else "sigma"
    plan = choose_plan(weights, budget)
    live = LiveRestorer(weights.network, pixels, plan=plan.plan, device="cpu", dtype=dtype)
    values = values_of(live)
    height, width = pixels.shape[:2]
    top, left = (height - side) // 2 // 8 * 8, (width - side) // 2 // 8 * 8
    window = Box(top, top + side, left, left + side)
    shown = np.ascontiguousarray(pixels[window.slices])

    def fresh(image: np.ndarray) -> float:
        return milliseconds(restorer, image, budget, **{name: next(values)})

    live.part(next(values), window), live.preview(next(values), window), fresh(shown)
    times: dict[str, list[float]] = {column: [] for column in COLUMNS}
    for _ in range(repeats):
        times["merge"].append(milliseconds(live._full.at, live._place(next(values))))
        live._looks.clear()
        times["first"].append(milliseconds(live.preview, next(values), window))
        times["window"].append(milliseconds(live.part, next(values), window))
        times["fresh_window"].append(fresh(shown))
    times["prepare"].append(milliseconds(live.prepare, window))
    times["preview"] = [milliseconds(live.preview, next(values), window) for _ in range(4 * repeats + 1)][1:]
    times["fresh_whole"] = [fresh(pixels) for _ in range(max(1, repeats // 4))]
    medians = {column: statistics.median(values) for column, values in times.items()}
    value = next(values)
    again = LiveRestorer(weights.network, pixels, plan=plan.plan, device="cpu", dtype=dtype)
    mixed, run = live.preview(value, window), again.preview(value, window)
    return {
        "picture": f"{width}x{height}",
        "window": f"{side}x{side}",
        "budget": budget,
        "macs_per_pixel": plan.measured.macs_per_pixel,
        "dtype": str(restorer.dtype).removeprefix("torch."),
        "milliseconds": medians,
        "all_milliseconds": times,
        "faster_than_window": medians["fresh_window"] / medians["preview"],
        "faster_than_whole": medians["fresh_whole"] / medians["preview"],
        "first_faster_than_window": medians["fresh_window"] / medians["first"],
        "first_faster_than_whole": medians["fresh_whole"] / medians["first"],
        "mixed_rms": rms(mixed, run),
        "preview_rms": rms(mixed, live.part(value, window)),
    }


def table(rows: list[dict[str, Any]], command: str, machine: str) -> str:
    """The rows in Markdown."""
    heads = ["model", "budget", "picture", *COLUMNS.values(), "preview faster than restorer: window", "whole"]
    heads += ["first preview: window", "whole", "mixed off by", "preview off by"]
    lines = [
        "# The slider",
        "",
        f"`{command}`, {machine}.",
        "",
        "Milliseconds, median, of a window of the picture at a level that was not asked before. *First preview*: of a",
        "window that was never looked at. *Preview*: of one that was prepared. *Restorer*: a `Denoiser` or `JpegRestorer` of",
        "the same budget, called with the new level; on the window alone its border lacks what lies around, which *window,",
        "full quality* reads. *Mixed off by*: rms difference of a preview from a run of its plan, of 255; *preview off by*:",
        "from full quality.",
        "",
        "|" + "|".join(heads) + "|",
        "|---|---|---|" + "---:|" * (len(heads) - 3),
    ]
    for row in rows:
        cells = [row["model"], row["budget"], row["picture"]]
        cells += [f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in row["milliseconds"].values()]
        for name in ("faster_than_window", "faster_than_whole", "first_faster_than_window", "first_faster_than_whole"):
            cells.append(f"{row[name]:.1f}x")
        known = row["model"] != "hyperres"
        cells += [f"{row[name]:.2f}" if known else "" for name in ("mixed_rms", "preview_rms")]
        lines.append("|" + "|".join(cells) + "|")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default,dejpeg,hyperres")
    parser.add_argument("--budgets", default="balanced,best", help="hyperres has best alone")
    parser.add_argument("--sizes", default="1500x1000,4000x3000", help="width x height")
    parser.add_argument("--window", type=int, default=512, help="side of what is on the screen")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    rows = []
    for model in args.model.split(","):
        weights = weights_of(model)
        for size in args.sizes.split(","):
            pixels = picture(*map(int, size.split("x")), weights.network.facts.task)
            for budget in ["best"] if model == "hyperres" else args.budgets.split(","):
                repeats = max(2, args.repeats // 4) if model == "hyperres" else args.repeats
                row = {"model": model, **measure(weights, budget, pixels, args.window, repeats, args.dtype)}
                rows.append(row)
                times = ", ".join(f"{COLUMNS[name]} {value:.1f}" for name, value in row["milliseconds"].items())
                print(f"{model} {budget} {size}: {times}; {row['faster_than_window']:.0f}x", flush=True)
    command = shlex.join(["python", "benchmarks/live.py", *sys.argv[1:]])
    here = environment(commit=current_commit(), allocator="mallopt, as the restorers set it")
    dtypes = ", ".join(sorted({row["dtype"] for row in rows}))
    machine = (
        f"{here.cpu}, {here.threads} threads of {here.cores} cores, load {here.load}, torch {here.torch}, {dtypes}, "
        f"commit {here.commit}"
    )
    with whole_file(args.out / "live.json") as temporary:
        told = {"command": command, "environment": here.to_json(), "rows": rows}
        temporary.write_text(json.dumps(told, indent=1) + "\n")
    with whole_file(args.out / "live.md") as temporary:
        temporary.write_text(table(rows, command, machine))


if __name__ == "__main__":
    main()
