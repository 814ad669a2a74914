"""How far tiles are from the whole picture: random sizes, plans and tiles of the default network, float32, CPU.

python benchmarks/exact_tiles.py --trials 60
"""

import argparse
import random

import torch

from grainwise.networks.checkpoint import load_weights
from grainwise.runtime.tiles import plan_tiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    args = parser.parse_args()
    random.seed(0)
    net = load_weights("default").network
    facts = net.facts
    worst, count = 0.0, 0
    for _ in range(args.trials):
        plan = net.space.plan({dim.name: random.choice(dim.widths) for dim in net.space.dims})
        plain = net.extract(plan)
        height, width = random.randint(9, 420), random.randint(9, 420)
        x, sigma = torch.rand(1, 3, height, width), torch.rand(1, 1, height, width) / 4
        grid = {"halo": facts.halo, "multiple": facts.size_multiple, "least_pixels": facts.least_tile}
        with torch.inference_mode():
            whole = plain(x, sigma=sigma)
            for tile in plan_tiles(height, width, size=8 * random.randint(1, 25), **grid):
                rows, columns = tile.read.slices
                part = plain(x[:, :, rows, columns], sigma=sigma[:, :, rows, columns])
                inner, outer = tile.write.within(tile.read).slices, tile.write.slices
                worst = max(worst, float((part[:, :, *inner] - whole[:, :, *outer]).abs().max()))
                count += 1
    print(f"{args.trials} pictures and plans, {count} tiles: largest difference {worst:g}")


if __name__ == "__main__":
    main()
