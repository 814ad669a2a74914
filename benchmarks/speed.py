"""Speed of every named plan on one large picture, as a share of the machine's dense 3x3 convolution rate, in one run.

    python benchmarks/speed.py --megapixels 12

The picture is noise on a ramp: a convolution takes as long on any picture. Files are not part of it.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from grainwise.core.commit import current_commit
from grainwise.evaluation.bench import dense_conv_rate
from grainwise.evaluation.environment import environment
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.denoiser import Denoiser


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budgets", nargs="+", default=["fast", "27k", "balanced", "best"])
    args = parser.parse_args()
    height = int((args.megapixels * 1e6 * 3 / 4) ** 0.5)
    width = int(height * 4 / 3)
    ramp = np.linspace(40, 200, width)[None, :, None]
    picture = (ramp + np.random.default_rng(0).normal(0, 20, (height, width, 3))).clip(0, 255).astype(np.uint8)
    print(f"{environment(commit=current_commit())}\n{height}x{width} pixels, uint8 in and out, sigma told\n")
    print(
        "| dtype | plan | MACs/px | s | s/MP | GMAC/s | share of dense 3x3 | network alone |\n|---|---|" + "---:|" * 6
    )
    for dtype in ("float32", "bfloat16"):
        denoiser = Denoiser.from_pretrained(dtype=dtype)  # type: ignore[arg-type]
        rate = dense_conv_rate(denoiser.dtype)
        for budget in args.budgets:
            choice = choose_plan(denoiser.weights, budget)
            plan, measured = choice.plan, choice.measured
            times, alone = [], []
            x = torch.rand(1, 3, 1024, 1024).contiguous(memory_format=torch.channels_last)
            network, level = denoiser._network(plan), torch.tensor([0.1])
            for _ in range(args.repeats + 1):
                start = time.perf_counter()
                denoiser(picture, budget, sigma=0.1)
                times.append(time.perf_counter() - start)
                with torch.inference_mode():
                    start = time.perf_counter()
                    network(x, sigma=level)
                    alone.append(time.perf_counter() - start)
            seconds = statistics.median(times[1:])
            speed = measured.macs_per_pixel * height * width / seconds / 1e9
            inner = measured.macs_per_pixel * 2**20 / statistics.median(alone[1:]) / 1e9
            print(
                f"| {dtype} | {budget} | {measured.macs_per_pixel} | {seconds:.2f} | "
                f"{seconds / (height * width / 1e6):.4f} | {speed:.0f} | {100 * speed / rate:.0f} % of {rate:.0f} | "
                f"{100 * inner / rate:.0f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
