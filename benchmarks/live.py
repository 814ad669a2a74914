"""What a move of the slider costs: merging the kernels, the preview, a window, the whole picture.

python benchmarks/live.py --pixels 1500x1000 --repeats 20      (random weights: the time does not depend on them)
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from grainwise.evaluation.environment import environment
from grainwise.networks.hyperres import HyperRes
from grainwise.runtime.live import LiveRestorer
from grainwise.runtime.tiles import Box


def milliseconds(work: Callable[[float], object], values: list[float]) -> float:
    """The median over ``values``, the first not counted."""
    times = []
    for value in values:
        start = time.perf_counter()
        work(value)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", default="1500x1000", help="width x height of the picture")
    parser.add_argument("--window", type=int, default=512, help="side of what is on the screen")
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--stream", default="64", help="widths; the narrowest makes the preview")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--whole", action="store_true", help="time the whole picture too")
    args = parser.parse_args()
    width, height = map(int, args.pixels.split("x"))
    torch.manual_seed(0)
    net = HyperRes(blocks=args.blocks, stream=[int(value) for value in args.stream.split(",")]).eval()
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    live = LiveRestorer(net, image, dtype=args.dtype, device="cpu")
    levels = list(np.linspace(0.05, 0.25, args.repeats + 1))
    window = Box(0, min(args.window, height), 0, min(args.window, width))
    result = {
        "merge_ms": milliseconds(live._full.at, levels),
        "preview_ms": milliseconds(live.preview, levels),
        "preview_factor": live.factor,
        "window_ms": milliseconds(lambda value: live.part(value, window), levels[:6]),
        "whole_ms": milliseconds(live.full, levels[:4]) if args.whole else None,
    }
    print(json.dumps({**vars(args), **result, "environment": dataclasses.asdict(environment())}, indent=1, default=str))


if __name__ == "__main__":
    main()
