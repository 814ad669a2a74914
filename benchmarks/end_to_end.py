"""Whole files through the command line: the share of each step, and the peak memory of the process.

    python benchmarks/end_to_end.py --megapixels 12
    python benchmarks/end_to_end.py --megapixels 100 --max-memory 1500

The JPEG is a mosaic of the photographs in --data, with noise of sigma 15, at quality 95.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from grainwise.cli.restorers import pictures_in
from grainwise.core.commit import current_commit
from grainwise.core.pictures import Picture, write_picture


def mosaic(data: Path, megapixels: float) -> np.ndarray:
    """Photographs side by side, 4:3, uint8."""
    height = int((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = int(height * 4 / 3)
    tiles = [pixels[:512, :512] for _, pixels in pictures_in(data)]
    out = np.empty((height, width, 3), np.uint8)
    generator, count = np.random.default_rng(0), 0
    for top in range(0, height, 512):
        for left in range(0, width, 512):
            place = out[top : top + 512, left : left + 512]
            tile = tiles[count % len(tiles)][: place.shape[0], : place.shape[1]]
            noise = generator.normal(0, 15, tile.shape)
            place[:] = np.rint((tile + noise).clip(0, 255))
            count += 1
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/test/kodak-full"))
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--max-memory", type=float)
    parser.add_argument("--budgets", default="fast,balanced,best")
    args = parser.parse_args()
    print(f"commit {current_commit()}, {args.megapixels:g} MP JPEG, --max-memory {args.max_memory}\n")
    print("| budget | s | decode | noise level | network | encode | MP/s | tiles | peak MB |\n|---|" + "---:|" * 8)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jpg"
        pixels = mosaic(args.data, args.megapixels)
        write_picture(source, pixels, Picture(pixels))
        del pixels
        for budget in args.budgets.split(","):
            command = [sys.executable, "-m", "grainwise", "denoise", str(source), "-o", f"{folder}/out.jpg", "--json"]
            command += ["--budget", budget]
            if args.max_memory is not None:
                command += ["--max-memory", str(args.max_memory)]
            run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert run.stdout is not None
            told = json.loads(run.stdout.read())
            peak = os.wait4(run.pid, 0)[2].ru_maxrss / 1024
            steps = [told[f"seconds_{step}"] for step in ("read", "estimate", "network", "write")]
            shares = " | ".join(f"{step:.2f} s, {100 * step / told['seconds']:.0f} %" for step in steps)
            print(
                f"| {budget} | {told['seconds']:.2f} | {shares} | {told['megapixels_per_second']:.1f} | "
                f"{told['tiles']} | {peak:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
