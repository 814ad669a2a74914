"""Seconds and GMAC/s of plans and dtypes on one photograph, as a share of this machine's dense 3x3 convolution rate.

    python benchmarks/speed.py --megapixels 12

Three ways: the network alone (1 MP, no conversion, no tiles), a call (uint8 pixels in and out, level told), and end to end: a
JPEG of photographs with noise of sigma 15, at quality 95, through the command line in a fresh process, level read, files
included, the start of Python not. Each before and after what profiling took away: "before" is the same code without fused
convolutions (`grainwise.primitives.fused_conv`) and with the allocator and the huge pages as glibc and NumPy have them. Every
state and dtype runs in a process of its own. Writes docs/results/speed.md and .json.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

STATES = ("before", "after")
DTYPES = ("float32", "bfloat16")
AIMS = {"widest": {"alone": 75, "end": 60}, "narrowest": {"alone": 60, "end": 40}}
"""Per cent of the dense rate, after."""
STEPS = ("read", "estimate", "network", "write")


def set_back() -> None:
    """Undo in this process what profiling led to."""
    from grainwise.primitives import fused_conv
    from grainwise.runtime import machine

    fused_conv._FUSED = False
    machine.tune_allocator = lambda: False  # type: ignore[assignment]


def in_process(state: str, dtype: str, budgets: list[str], megapixels: float, repeats: int) -> dict[str, Any]:
    """Network alone and whole calls, seconds, medians; and the dense rate, GMAC/s."""
    if state == "before":
        set_back()
    import torch

    from grainwise.evaluation.bench import dense_conv_rate
    from grainwise.runtime.budget import choose_plan
    from grainwise.runtime.denoiser import Denoiser

    denoiser = Denoiser.from_pretrained(dtype=dtype)  # type: ignore[arg-type]
    height = int((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = int(height * 4 / 3)
    ramp = np.linspace(40, 200, width)[None, :, None]
    picture = (ramp + np.random.default_rng(0).normal(0, 20, (height, width, 3))).clip(0, 255).astype(np.uint8)
    x, level = torch.rand(1, 3, 1024, 1024).contiguous(memory_format=torch.channels_last), torch.tensor([0.1])
    rows = []
    for budget in budgets:
        choice = choose_plan(denoiser.weights, budget)
        network: Any = denoiser._network(choice.plan)
        calls, alone = [], []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            denoiser(picture, budget, sigma=0.1)
            calls.append(time.perf_counter() - start)
            with torch.inference_mode():
                start = time.perf_counter()
                network(x, sigma=level)
                alone.append(time.perf_counter() - start)
        macs = choice.measured.macs_per_pixel
        row = {"macs_per_pixel": macs, "seconds_call": statistics.median(calls[1:])}
        row["rate_call"] = macs * height * width / row["seconds_call"] / 1e9
        row["rate_alone"] = macs * 2**20 / statistics.median(alone[1:]) / 1e9
        rows.append(row)
    return {"dense": dense_conv_rate(denoiser.dtype), "rows": rows, "pixels": [height, width]}


def own(*arguments: str) -> Any:  # noqa: ANN401 -- JSON
    """Run this script in a process of its own; the JSON of its last line."""
    run = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def end_to_end(state: str, dtype: str, budget: str, source: Path, repeats: int) -> dict[str, Any]:
    """The command's own account of the run that took the median of the seconds."""
    out = source.with_name("out.jpg")
    given = ["denoise", str(source), "-o", str(out), "--json", "--budget", budget, "--dtype", dtype]
    told = sorted((own("--command", state, *given) for _ in range(repeats)), key=lambda line: line["seconds"])
    return told[len(told) // 2]


def measure(budgets: list[str], megapixels: float, repeats: int, data: Path) -> list[dict[str, Any]]:
    """A row for every dtype and plan."""
    from end_to_end import mosaic

    from grainwise.core.pictures import Picture, write_picture

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jpg"
        pixels = mosaic(data, megapixels)
        write_picture(source, pixels, Picture(pixels))  # type: ignore[arg-type]
        size = pixels.shape[0] * pixels.shape[1]
        del pixels
        for dtype in DTYPES:
            inside = {
                state: own("--inside", state, dtype, ",".join(budgets), str(megapixels), str(repeats))
                for state in STATES
            }
            dense = max(told["dense"] for told in inside.values())
            for place, budget in enumerate(budgets):
                row: dict[str, Any] = {"dtype": dtype, "budget": budget, "dense": dense}
                for state in STATES:
                    told = inside[state]["rows"][place]
                    files = end_to_end(state, dtype, budget, source, repeats)
                    rate = files["macs_per_pixel"] * size / files["seconds"] / 1e9
                    steps = {step: files[f"seconds_{step}"] for step in STEPS}
                    row[state] = {**told, "seconds_end": files["seconds"], "rate_end": rate, "steps": steps}
                rows.append(row)
                print(words(row), flush=True)
    return rows


def share(row: dict[str, Any], state: str, way: str) -> float:
    """Per cent of the dense rate."""
    return 100 * row[state][f"rate_{way}"] / row["dense"]


def words(row: dict[str, Any]) -> str:
    """A row of the table."""
    after = row["after"]
    cells = [row["dtype"], row["budget"], f"{after['macs_per_pixel']:,}"]
    for way in ("alone", "call", "end"):
        if way != "alone":
            cells.append(" -> ".join(f"{row[state][f'seconds_{way}']:.2f}" for state in STATES))
        cells.append(f"{after[f'rate_{way}']:.0f}")
        cells.append(" -> ".join(f"{share(row, state, way):.0f}" for state in STATES) + " %")
    cells.append(" / ".join(f"{after['steps'][step]:.2f}" for step in STEPS))
    return f"| {' | '.join(cells)} |"


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Each aim, and what was reached."""
    lines = []
    for dtype in DTYPES:
        mine = sorted((row for row in rows if row["dtype"] == dtype), key=lambda row: row["after"]["macs_per_pixel"])
        for name, row in (("narrowest", mine[0]), ("widest", mine[-1])):
            for way, aim in AIMS[name].items():
                reached = share(row, "after", way)
                place = "the network alone" if way == "alone" else "end to end"
                told = "met" if reached >= aim else "**missed**"
                lines.append(
                    f"- {dtype}, {name} plan, {place}: {reached:.0f} % of the dense rate, aim {aim} %: {told}."
                )
    return lines


def page(rows: list[dict[str, Any]], machine: str, pixels: str) -> str:
    """The page in Markdown."""
    dense = ", ".join(f"{dtype} {next(row['dense'] for row in rows if row['dtype'] == dtype):.0f}" for dtype in DTYPES)
    head = ["dtype", "plan", "MACs/px", "GMAC/s", "network alone", "call, s", "GMAC/s", "share"]
    head += ["files too, s", "GMAC/s", "share", "read / level / network / write, s"]
    lines = [
        "# Speed",
        "",
        f"`{shlex.join(('python', *sys.argv))}`, {machine}. {pixels}.",
        "",
        f"Dense 3x3 convolution of 64 channels, channels_last, 512x512, GMAC/s: {dense}. Shares are of that rate, in the",
        'same dtype. "a -> b": before and after the profiling work (fused convolutions; memory that stays with the process;',
        "no huge pages for NumPy). A call: uint8 in and out, level told. Files too: a JPEG through the command line, in a",
        "fresh process, level read; GMAC/s and steps are those after.",
        "",
        f"| {' | '.join(head)} |",
        "|---|---|" + "---:|" * (len(head) - 2),
        *(words(row) for row in rows),
        "",
        *verdicts(rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budgets", default="fast,27k,balanced,60k,best")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/test/kodak-full"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    from grainwise.core.commit import current_commit
    from grainwise.core.files import whole_file
    from grainwise.evaluation.environment import environment

    here = environment(commit=current_commit())
    machine = (
        f"{here.cpu}, {here.threads} threads of {here.cores} cores, load {here.load}, torch {here.torch}, {here.commit}"
    )
    rows = measure(args.budgets.split(","), args.megapixels, args.repeats, args.data)
    with whole_file(args.out / "speed.json") as temporary:
        temporary.write_text(json.dumps({"environment": here.to_json(), "rows": rows}, indent=1) + "\n")
    with whole_file(args.out / "speed.md") as temporary:
        temporary.write_text(page(rows, machine, f"{args.megapixels:g} megapixels, medians of {args.repeats}"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _, _, which, kind, plans, size, times = sys.argv
        print(json.dumps(in_process(which, kind, plans.split(","), float(size), int(times))))
    elif sys.argv[1:2] == ["--command"]:
        if sys.argv[2] == "before":
            set_back()
        from grainwise.cli import main as grainwise

        grainwise(sys.argv[3:])
    else:
        main()
