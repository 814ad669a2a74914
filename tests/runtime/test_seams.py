"""Where the plan changes between tiles, no line shows."""

import numpy as np
import pytest
import torch

import grainwise
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.level import Level
from grainwise.runtime.seams import REACH, Seams, blend_into
from grainwise.runtime.tile_run import OnePlan, TileRun
from grainwise.runtime.tiles import Tile, plan_tiles

DEAR, CHEAP, CHEAPEST = (ChannelPlan((("level0", width),)) for width in (64, 32, 16))


class Script:
    """Plans as written down before."""

    def __init__(self, plans: list[ChannelPlan]) -> None:
        self._plans = iter(plans)

    def next(self) -> ChannelPlan:
        return next(self._plans)

    def done(self, seconds: float, shape: tuple[int, int]) -> None:
        pass


def paint(tiles: tuple[Tile, ...], plans: list[ChannelPlan], shape: tuple[int, int]) -> np.ndarray:
    """What is seen where every plan paints its own even grey."""
    out = np.full((*shape, 1), -1.0, np.float32)
    seams = Seams(8)
    for tile, plan in zip(tiles, plans, strict=True):
        grown = seams.grow(tile, plan)
        new = np.full((grown.write.height, grown.write.width, 1), float(plan["level0"]), np.float32)
        blend_into(
            out[grown.write.slices], new, up=tile.write.top - grown.write.top, aside=tile.write.left - grown.write.left
        )
    return out[..., 0]


@pytest.mark.parametrize("first_drop", range(1, 12))
@pytest.mark.parametrize("second_drop", [1, 4, 99])
def test_from_pixel_to_pixel_the_share_changes_little(first_drop: int, second_drop: int) -> None:
    tiles = plan_tiles(200, 300, size=80, halo=20, multiple=8)
    assert len(tiles) == 12
    order = [DEAR] * first_drop + [CHEAP] * second_drop + [CHEAPEST] * 12
    seen = paint(tiles, order[:12], (200, 300))
    greatest = 64 - 16 if second_drop < 12 - first_drop else 64 - 32
    for axis in (0, 1):
        steps = np.abs(np.diff(seen, axis=axis))
        assert steps.max() <= greatest / 4  # at the corner where two changes meet; elsewhere much less:
        assert (steps > 2 * greatest / (REACH + 1) + 1e-4).sum() <= (REACH if second_drop == 1 else 0)
    assert seen.min() == order[11]["level0"]
    last = tiles[11].write
    assert (seen[last.slices] == order[11]["level0"]).all()


def test_the_same_plan_reaches_nowhere() -> None:
    tiles = plan_tiles(200, 300, size=80, halo=20, multiple=8)
    seams = Seams(8)
    assert [seams.grow(tile, DEAR) for tile in tiles] == list(tiles)


def test_tiles_that_reach_read_as_much_more() -> None:
    tiles = plan_tiles(200, 300, size=80, halo=20, multiple=8)
    seams = Seams(8)
    grown = [seams.grow(tile, DEAR if index < 5 else CHEAP) for index, tile in enumerate(tiles)]
    corner, plain = grown[5], tiles[5]
    assert (corner.write.top, corner.write.left) == (plain.write.top - REACH, plain.write.left - REACH)
    assert (corner.write.bottom, corner.write.right) == (plain.write.bottom, plain.write.right)
    for tile in grown:
        assert tile.read.top % 8 == tile.read.left % 8 == 0
        assert tile.read.top <= max(0, tile.write.top - 20)
        assert tile.read.left <= max(0, tile.write.left - 20)


def test_integers_are_blended_and_rounded() -> None:
    out = np.full((30, 40, 3), 200, np.uint8)
    blend_into(out, np.full((30, 40, 3), 100, np.uint8), up=9, aside=0)
    assert out[:, 0, 0].tolist() == [190, 180, 170, 160, 150, 140, 130, 120, 110, *[100] * 21]


@pytest.fixture(scope="module")
def denoiser() -> grainwise.Denoiser:
    return grainwise.Denoiser.from_pretrained(device="cpu", dtype="float32")


def noisy(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] / 64
    clean = 0.5 + 0.2 * np.sin(2 * rows + columns) + 0.1 * np.sin(11 * columns)
    noise = np.random.default_rng(0).standard_normal((height, width, 3), np.float32)
    return (clean[..., None] + 25 / 255 * noise).astype(np.float32)


def test_in_a_restored_picture_the_border_is_no_steeper_than_the_rest(denoiser: grainwise.Denoiser) -> None:
    height, width = 192, 576
    picture = noisy(height, width)
    facts, plans = denoiser.weights.network.facts, list(denoiser.weights.plans())
    tiles = plan_tiles(height, width, size=192, halo=facts.halo, multiple=facts.size_multiple)
    level = Level(25 / 255, None, 1.0, facts.sigma_max, (height, width))
    total = sum(tile.read.area for tile in tiles)

    def restored(script: "Script | OnePlan") -> np.ndarray:
        run = TileRun(
            denoiser._network, facts, torch.device("cpu"), level, script, total=total, progress=None, sparing=False
        )
        out = np.empty_like(picture)
        run.run(tiles, picture, out)
        return out

    best, fast = restored(OnePlan(plans[-1])), restored(OnePlan(plans[0]))
    mixed = restored(Script([plans[-1], plans[0], plans[0]]))
    border = 192
    assert np.array_equal(mixed[:, : border - REACH], best[:, : border - REACH])
    assert np.array_equal(mixed[:, border:], fast[:, border:])
    low, high = np.minimum(best, fast), np.maximum(best, fast)
    assert (mixed >= low - 1e-6).all()
    assert (mixed <= high + 1e-6).all()
    share = (mixed - best) / np.where(np.abs(fast - best) < 1e-3, np.nan, fast - best)
    ramp = np.nanmedian(share, axis=(0, 2))[border - REACH - 1 : border + 1]
    np.testing.assert_allclose(np.diff(ramp), 1 / (REACH + 1), atol=0.002)
    # what the plans differ by changes from pixel to pixel at the border no more than within either of them
    own = np.abs(np.diff(fast - best, axis=1)).mean()
    added = np.abs(np.diff(mixed - best, axis=1))[:, border - REACH - 1 : border + 1].mean()
    hard = np.abs((fast - best)[:, border]).mean()
    assert added <= own
    assert added < hard
