"""How much the border between a tile of the widest plan and one of the narrowest shows, on photographs.

    python benchmarks/seams.py --data ../shared/data/test/kodak24 --limit 8

Steps from one pixel to the next across the 24 columns of the blend, in steps of 255: those that the change of the plan adds
to the result of the widest plan, those by which the two plans' own difference changes from pixel to pixel anyway, and those
of a border without a blend. From pixel to pixel the share of a plan changes by 1/25, so a blend adds at most 1/25 of what
the plans differ by to their own changes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from grainwise.cli.restorers import pictures_in
from grainwise.core.commit import current_commit
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.denoiser import Denoiser
from grainwise.runtime.level import Level
from grainwise.runtime.seams import REACH
from grainwise.runtime.tile_run import OnePlan, TileRun
from grainwise.runtime.tiles import Shape, plan_tiles

SIDE = 192


class InTurn:
    """Plans as written down."""

    def __init__(self, plans: list[ChannelPlan]) -> None:
        self._plans = iter(plans)

    def next(self) -> ChannelPlan:
        return next(self._plans)

    def done(self, seconds: float, shape: Shape) -> None:
        pass


def border(denoiser: Denoiser, picture: np.ndarray, sigma: float) -> tuple[float, ...]:
    """What the plans differ by (rms), steps added (mean, greatest), own changes (mean), hard border (mean, greatest)."""
    facts, plans = denoiser.weights.network.facts, list(denoiser.weights.plans())
    size = picture.shape[:2]
    tiles = plan_tiles(*size, size=SIDE, halo=facts.halo, multiple=facts.size_multiple)
    level, total = Level(sigma, None, 1.0, facts.sigma_max, size), sum(tile.read.area for tile in tiles)

    def restored(script: InTurn | OnePlan) -> np.ndarray:
        run = TileRun(
            denoiser._network, facts, torch.device("cpu"), level, script, total=total, progress=None, sparing=False
        )
        out = np.empty_like(picture)
        run.run(tiles, picture, out)
        return 255 * out

    widest, narrowest = restored(OnePlan(plans[-1])), restored(OnePlan(plans[0]))
    mixed = restored(InTurn([plans[-1], *[plans[0]] * (len(tiles) - 1)]))
    between = narrowest - widest
    added = np.abs(np.diff(mixed - widest, axis=1))[:, SIDE - REACH - 1 : SIDE]
    own, hard = np.abs(np.diff(between, axis=1)), np.abs(between[:, SIDE])
    return float(np.sqrt((between**2).mean())), added.mean(), added.max(), own.mean(), hard.mean(), hard.max()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/test/kodak-full"))
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--sigma", type=float, default=25, help="of 255")
    args = parser.parse_args()
    denoiser = Denoiser.from_pretrained(device="cpu", dtype="float32")
    print(f"commit {current_commit()}, sigma {args.sigma:g}, steps of 255\n")
    print("| picture | plans differ, rms | added | greatest | own | no blend | greatest |\n|---|" + "---:|" * 6)
    rows = []
    for name, pixels in pictures_in(args.data):
        if len(rows) == args.limit:
            break
        if pixels.shape[0] < SIDE or pixels.shape[1] < 3 * SIDE or pixels.shape[2] != 3:
            continue
        crop = pixels[:SIDE, : 3 * SIDE].astype(np.float32) / np.float32(255)
        noise = np.random.default_rng(0).standard_normal(crop.shape, np.float32)
        rows.append(border(denoiser, crop + np.float32(args.sigma / 255) * noise, args.sigma / 255))
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in rows[-1]) + " |", flush=True)
    print("| mean | " + " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)) + " |")


if __name__ == "__main__":
    main()
