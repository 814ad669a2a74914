"""A picture larger than memory through the command line: peak memory and time, the same pixels, and what a cancel leaves.

    python benchmarks/streaming.py --megapixels 400 --max-memory 1000

Three parts: a TIFF of photographs side by side with noise of sigma 15 is restored within the limit, in a process whose peak of
resident memory is told by the system; a smaller picture is restored in strips and in one piece, and compared; and a run
is stopped (SIGINT, which background jobs of a shell ignore) on the way: how long it takes to end, and what files are left.
Writes docs/results/streaming.md and .json.
"""

import argparse
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from end_to_end import mosaic

from grainwise.core.commit import current_commit
from grainwise.core.files import whole_file
from grainwise.core.picture_rows import PictureInfo, writing_rows
from grainwise.core.pictures import read_picture
from grainwise.evaluation.environment import environment

CANCELLED = 130
"""The exit code of a run that was stopped."""

ROWS = 512


def make(path: Path, data: Path, megapixels: float) -> tuple[int, int]:
    """A TIFF, 4:3, written in strips that repeat; its height and width."""
    height = math.ceil((megapixels * 1e6 * 3 / 4) ** 0.5 / ROWS) * ROWS
    width = int(height * 4 / 3)
    strip = mosaic(data, 3.0)
    strip = np.tile(strip[:ROWS], (1, -(-width // strip.shape[1]), 1))[:, :width]
    like = PictureInfo(path, height, width, 3, False, np.uint8, "tiff", lossless=True, in_rows=True)
    random = np.random.default_rng(1)
    with writing_rows(path, like) as write:
        for _ in range(height // ROWS):
            write(np.roll(strip, int(random.integers(width)), axis=1))
    return height, width


def command(source: Path, target: Path, *more: str) -> list[str]:
    """The command that restores ``source``."""
    return [sys.executable, "-m", "grainwise", "denoise", str(source), "-o", str(target), "--json", *more]


def restore(source: Path, target: Path, *more: str) -> dict[str, Any]:
    """What the command tells, and the peak memory of its process (at least that of this one, whose child it is)."""
    run = subprocess.Popen(command(source, target, *more), stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    said = run.stdout.read()
    _, status, usage = os.wait4(run.pid, 0)
    if status:
        raise SystemExit(
            f"{shlex.join(command(source, target, *more))} ended with {os.waitstatus_to_exitcode(status)}: {said}"
        )
    told: dict[str, Any] = json.loads(said)
    told["peak_mb"] = usage.ru_maxrss / 1024
    del told["routes"]
    return told


def same(folder: Path, data: Path, megapixels: float, limit: float, budget: str) -> dict[str, Any]:
    """A smaller picture in strips, under a limit in MB, and in one piece: the greatest difference in float32, of 255."""
    make(folder / "small.tif", data, megapixels)
    given = ("--budget", budget, "--dtype", "float32")
    whole = restore(folder / "small.tif", folder / "whole.tif", *given)
    strips = restore(folder / "small.tif", folder / "strips.tif", *given, "--max-memory", f"{limit:g}")
    if whole["in_rows"] or not strips["in_rows"]:
        raise SystemExit("the smaller picture was not restored both ways; choose another --small or --small-memory")
    pixels = [read_picture(folder / name).pixels.astype(np.int16) for name in ("whole.tif", "strips.tif")]
    difference = int(np.abs(pixels[0] - pixels[1]).max())
    peaks = {"peak_whole_mb": whole["peak_mb"], "peak_strips_mb": strips["peak_mb"]}
    return {"megapixels": whole["megapixels"], "difference": difference, "tiles": strips["tiles"], **peaks}


def cancel(source: Path, folder: Path, after: float, *more: str) -> dict[str, Any]:
    """Stop a run after so many seconds: how long it took to end, and the files that are left."""
    folder.mkdir()
    run = subprocess.Popen(
        command(source, folder / "out.tif", *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(after)
    start = time.perf_counter()
    run.send_signal(signal.SIGINT)
    code = run.wait()
    seconds = time.perf_counter() - start
    left = sorted(path.name for path in folder.iterdir())
    if code != CANCELLED:
        raise SystemExit(
            f"the run was to be stopped after {after:g} s and ended with {code} ({CANCELLED} is a stopped one; 0 was done "
            "before: choose another --stop-after)"
        )
    return {"after": after, "seconds": seconds, "code": code, "left": left}


def page(told: dict[str, Any], machine: str) -> str:
    """The page in Markdown."""
    large, small, stopped = told["large"], told["same"], told["cancel"]
    tile, left = large["seconds"] / large["tiles"], ", ".join(stopped["left"]) or "none"
    size, limits = (
        f"{large['width']}x{large['height']}",
        f"--max-memory {told['max_memory']:g} --budget {told['budget']}",
    )
    speed, read = f"{large['megapixels_per_second']:.1f} MP/s", f"{large['seconds_estimate']:.1f} s"
    peaks = f"peak {small['peak_strips_mb']:.0f} MB in strips, {small['peak_whole_mb']:.0f} MB in one piece"
    lines = [
        "# A picture larger than memory",
        "",
        f"`{shlex.join(('python', *sys.argv))}`, {machine}, {large['dtype']}.",
        "",
        f"- {large['megapixels']:.0f} MP, an RGB TIFF of 8 bits ({size}), `{limits}`, level read:",
        f"  peak {large['peak_mb']:.0f} MB, {large['seconds']:.0f} s ({speed}), {large['tiles']} tiles. Reading the level,",
        f"  a pass through the file of its own, took {read} of that.",
        f"- The same pixels: {small['megapixels']:.0f} MP in {small['tiles']} tiles ({peaks})",
        f"  differ by at most {small['difference']} of 255 (float32).",
        f"- Stopped after {stopped['after']:.0f} s: ended {stopped['seconds']:.1f} s later (a tile takes {tile:.1f} s),",
        f"  exit code {stopped['code']}, files left: {left}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=400)
    parser.add_argument("--max-memory", type=float, default=1000, help="MB")
    parser.add_argument("--budget", default="fast")
    parser.add_argument("--small", type=float, default=36, help="megapixels of the picture that is compared")
    parser.add_argument("--small-memory", type=float, default=480, help="MB, too little for the whole of it")
    parser.add_argument("--stop-after", type=float, default=8, help="seconds")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/test/kodak-full"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    here = environment(commit=current_commit())
    with tempfile.TemporaryDirectory() as name:
        folder, limit = Path(name), ("--max-memory", f"{args.max_memory:g}", "--budget", args.budget)
        make(folder / "large.tif", args.data, args.megapixels)
        told = {"max_memory": args.max_memory, "budget": args.budget}
        told["cancel"] = cancel(folder / "large.tif", folder / "stopped", args.stop_after, *limit)
        told["large"] = restore(folder / "large.tif", folder / "out.tif", *limit)
        (folder / "out.tif").unlink()
        told["same"] = same(folder, args.data, args.small, args.small_memory, args.budget)
    machine = (
        f"{here.cpu}, {here.threads} threads of {here.cores} cores, load {here.load}, torch {here.torch}, {here.commit}"
    )
    text = page(told, machine)
    with whole_file(args.out / "streaming.json") as temporary:
        temporary.write_text(json.dumps({"environment": here.to_json(), **told}, indent=1) + "\n")
    with whole_file(args.out / "streaming.md") as temporary:
        temporary.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
