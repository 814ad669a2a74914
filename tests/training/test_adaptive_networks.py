"""The routers of benchmarks/adaptive.py: what they read and what they tell."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.benchmarks import benchmark

from grainwise.core.errors import InputError
from grainwise.networks.gain_predictor import CELL
from grainwise.networks.half_unet import HalfUNet

routing = benchmark("adaptive_networks")
MOST_READ, TEXTURE = routing.MOST_READ, routing.TEXTURE
GainRouter, GateRouter, PictureReader, Reading = (
    routing.GainRouter,
    routing.GateRouter,
    routing.PictureReader,
    routing.Reading,
)
cell_areas, rows_read = routing.cell_areas, routing.rows_read

WIDTHS = ((16, 24), (16, 24))
PLANS = ("level0=16,level1=16", "level0=24,level1=24")


def network() -> HalfUNet:
    torch.manual_seed(0)
    return HalfUNet(widths=WIDTHS, blocks=(1, 1)).eval()


def reading(count: int = 5, channels: int = 16) -> Any:
    generator = torch.Generator().manual_seed(1)
    sigma, texture, tap, energy = (
        torch.rand(count, *shape, generator=generator) + 0.1 for shape in ((), (TEXTURE,), (channels,), (channels,))
    )
    return Reading(sigma, texture, tap, energy)


def routers() -> list[Any]:
    torch.manual_seed(2)
    return [GainRouter(PLANS, 16), GainRouter(PLANS, 8, reads=(), hidden=4, members=1), GateRouter(PLANS, 16).eval()]


@given(st.integers(1, 700), st.integers(1, 300))
def test_some_rows_are_read_of_any_picture_and_few_of_a_large_one(height: int, width: int) -> None:
    rows = rows_read(height, width)
    assert len(rows) >= 1
    assert 0 <= rows[0] <= rows[-1] < -(-height // CELL)
    assert float(cell_areas(height, width).sum()) == height * width
    assert len(rows_read(64 * 800, 6000)) * CELL * 6000 <= 2 * MOST_READ + CELL * 6000


@settings(max_examples=20)
@given(st.integers(1, 200), st.integers(1, 150), st.booleans())
def test_what_is_read_of_a_row_of_cells_is_what_the_whole_picture_has_there(
    height: int, width: int, mapped: bool
) -> None:
    reader = PictureReader(network())
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))
    sigma = torch.full((1, 1, height, width), 0.1) if mapped else torch.tensor([0.1])
    with torch.inference_mode():
        found = reader(x, sigma)
        cells, tap, energy = reader.cells(x, torch.full((1, 1, 1, 1), 0.1))
    rows = list(rows_read(height, width))
    area = cell_areas(height, width)[rows]
    for ours, whole in ((found.tap, tap), (found.energy, energy)):
        wanted = (whole[:, rows] * area).sum((1, 2)) / area.sum()
        torch.testing.assert_close(ours[0], wanted, atol=1e-5, rtol=1e-5)
    assert found.texture.shape == (1, TEXTURE)
    assert cells.shape[1:] == tap.shape[1:] == energy.shape[1:]
    torch.testing.assert_close(found.sigma, torch.tensor([0.1]))


def test_texture_is_read_where_it_is() -> None:
    reader = PictureReader(network())
    generator = torch.Generator().manual_seed(0)
    flat = 0.5 + 0.05 * torch.randn(1, 3, 128, 256, generator=generator)
    striped = flat + 0.3 * torch.sin(torch.arange(256.0))
    level = torch.tensor([0.05])
    assert (reader(striped, level).texture[:, :6] > reader(flat, level).texture[:, :6]).all()
    assert float(reader(striped, level).energy.sum()) > float(reader(flat, level).energy.sum())


def test_every_router_tells_a_loss_of_every_plan_for_each_picture_by_itself() -> None:
    seen = reading()
    for router in routers():
        losses = router(seen)
        assert losses.shape == (5, 2)
        one = Reading(*(getattr(seen, name)[2:3] for name in Reading.__slots__))
        torch.testing.assert_close(router(one), losses[2:3])
        torch.testing.assert_close(router(Reading.together([seen, one]))[5:], losses[2:3])


def test_a_gain_router_tells_more_error_where_there_is_more_noise() -> None:
    seen = reading()
    louder = Reading(2 * seen.sigma, seen.texture, seen.tap, 4 * seen.energy)
    router = GainRouter(PLANS, 16, reads=("tap",))
    with torch.no_grad():
        for member in router.members:
            member[0].weight[:, 0] = 0.0
    halved = Reading(louder.sigma, louder.texture, 2 * louder.tap, louder.energy)
    torch.testing.assert_close(router(halved) - router(seen), torch.full((5, 2), 6.0206), atol=1e-3, rtol=0)


def test_what_cannot_be_is_refused() -> None:
    for plans in ((), ("a",), ("a", "a")):
        with pytest.raises(InputError, match="at least 2 plans"):
            GainRouter(plans, 16)
        with pytest.raises(InputError, match="at least 2 plans"):
            GateRouter(plans, 16)
    for counts in ({"channels": 0}, {"hidden": 0}, {"members": 0}):
        with pytest.raises(InputError, match="at least 1, got"):
            GainRouter(PLANS, **({"channels": 16} | counts))
    with pytest.raises(InputError, match="texture and tap"):
        GainRouter(PLANS, 16, reads=("colour",))
    with pytest.raises(InputError, match="reads 16 channels"):
        GainRouter(PLANS, 16)(reading(channels=8))
    for channels in (0, 25):
        with pytest.raises(InputError, match="1 to 24"):
            PictureReader(network(), channels)
    with pytest.raises(InputError, match="another level"):
        PictureReader(HalfUNet(widths=WIDTHS, blocks=(1, 1), convs="hyper"))
    with pytest.raises(InputError, match="takes"):
        PictureReader(network())(torch.rand(1, 4, 64, 64), torch.tensor([0.1]))
    with pytest.raises(InputError, match="one picture at a time"):
        PictureReader(network())(torch.rand(2, 3, 64, 64), torch.tensor([0.1, 0.1]))
