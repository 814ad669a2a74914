"""benchmarks/adaptive.py counts what it compares alike, and its verdicts follow from its numbers."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.benchmarks import FOLDER, benchmark

COSTS = np.array([10e3, 30e3, 90e3])


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return benchmark("adaptive_tables")


@pytest.fixture(scope="module")
def routers() -> ModuleType:
    return benchmark("adaptive_routers")


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    return benchmark("adaptive_pictures")


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return benchmark("adaptive_report")


def table(tables: ModuleType) -> Any:
    """Two pictures, of 300x200 and 64x64 pixels."""
    generator = np.random.default_rng(0)
    sizes = [(300, 200), (64, 64)]
    parts = []
    for index, size in enumerate(sizes):
        area = tables.cell_sums(np.ones(size))
        rows, columns = area.shape
        parts.append(
            (
                np.full(area.size, index),
                np.repeat(np.arange(rows), columns),
                np.tile(np.arange(columns), rows),
                area.ravel(),
            )
        )
    picture, row, column, area = (np.concatenate(part) for part in zip(*parts, strict=True))
    count = len(area)
    return tables.Table(
        errors=-np.sort(-generator.random((count, 3)), 1) * area[:, None],
        area=area,
        tap=generator.random((count, 4), np.float32),
        energy=generator.random((count, 4), np.float32),
        texture=generator.random((count, 8), np.float32),
        picture=picture,
        row=row,
        column=column,
        names=np.array(["a/one", "b/two"]),
        sigma=np.array([0.1, 0.2]),
        sizes=np.array(sizes),
    )


def test_sums_of_cells_are_those_of_the_picture(tables: ModuleType) -> None:
    values = np.random.default_rng(0).random((2, 130, 65))
    sums = tables.cell_sums(values)
    assert sums.shape == (2, 3, 2)
    np.testing.assert_allclose(sums.sum((1, 2)), values.sum((1, 2)))


def test_tiles_and_pictures_hold_the_same_error(tables: ModuleType, routers: ModuleType) -> None:
    cells = table(tables)
    whole = routers.units(cells)
    assert whole.area.tolist() == [60_000, 4096]
    for side in (1, 2, 4):
        parts = routers.units(cells, side=side)
        for picture in (0, 1):
            own = parts.where(parts.picture == picture)
            np.testing.assert_allclose((own.mse * own.area[:, None]).sum(0) / own.area.sum(), whole.mse[picture])
    assert len(routers.units(cells, side=1)) == 21
    assert len(routers.units(cells, sets=["b"])) == 1


def test_a_picture_with_another_noise_is_another_picture(tables: ModuleType, routers: ModuleType) -> None:
    one = routers.units(table(tables), side=2)
    both = routers.together([one, one])
    assert len(both) == 2 * len(one)
    assert set(both.picture) == {0, 1, 2, 3}


def test_a_table_is_kept_for_what_it_was_made_from(tables: ModuleType, tmp_path: Path) -> None:
    made = table(tables)
    made.save(tmp_path / "t.npz", "this")
    again = tables.Table.load(tmp_path / "t.npz", "this")
    np.testing.assert_array_equal(again.errors, made.errors)
    assert tables.Table.load(tmp_path / "t.npz", "that") is None
    assert tables.Table.load(tmp_path / "none.npz", "this") is None


def test_a_mark_tells_weights_folders_and_what_was_asked_for(tables: ModuleType, tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    before = tables.fingerprint(network)

    def mark(weights: str = before, folder: str = "a/free", what: int = 1) -> str:
        return str(tables.mark_of(weights, [], torch.float32, [tmp_path / folder], what))

    assert mark() == mark(folder="b/free")
    assert str(tmp_path) not in mark()
    with torch.no_grad():
        network.bias += 1
    assert len({mark(), mark(tables.fingerprint(network)), mark(folder="a/other"), mark(what=2)}) == 4


def known(routers: ModuleType, gains: list[float]) -> Any:
    """Pictures that gain so many dB from a plan to the next."""
    psnr = np.array([[30 + step * gain for step in range(3)] for gain in gains])
    count = len(gains)
    texture = torch.zeros(count, benchmark("adaptive_networks").TEXTURE)
    empty = routers.Reading(torch.ones(count), texture, torch.ones(count, 4), torch.ones(count, 4))
    return routers.Units(10 ** (-psnr / 10), np.full(count, 1000.0), np.arange(count), empty)


@pytest.mark.parametrize("objective", ["psnr", "error"])
def test_one_plan_for_all_gains_nothing_and_the_oracle_something(
    routers: ModuleType, pictures: ModuleType, objective: str
) -> None:
    units = known(routers, [0.0, 0.0, 0.5, 0.6])
    prices = pictures.Prices(COSTS, COSTS * 1e-12, 0.0)
    even = pictures.scored("even", units, np.ones(4, int), prices, 30e3, objective=objective)
    assert even.gain == pytest.approx(0, abs=1e-9)
    assert even.gain_seconds == pytest.approx(0, abs=1e-9)
    assert even.saved == pytest.approx(0, abs=1e-9)
    told = {"oracle": lambda one, _: -one.psnr, "worst": lambda one, _: -one.psnr[::-1]}
    best, worst = pictures.compare(units, told, prices, [50e3], objective=objective)
    assert best.gain > 0.1
    assert 0 < best.saved < 1
    assert best.macs <= 50e3
    assert worst.gain < 0
    read = pictures.Prices(COSTS, COSTS * 1e-12, 1e-9)
    dear = pictures.scored("even", units, np.ones(4, int), read, 30e3, objective=objective)
    assert dear.gain == even.gain
    assert dear.gain_seconds < even.gain_seconds - 1e-6


@pytest.mark.parametrize(
    ("score", "wanted"),
    [
        (30.0, 10e3),
        (30.5, (10e3 * 30e3) ** 0.5),
        (31.0, 30e3),  # a dearer plan is worse, and one plan for all need not be that
        (31.5, 30e3),
        (29.0, 10e3),
    ],
)
def test_what_is_saved_is_that_of_the_cheapest_plan_that_does_as_well(
    routers: ModuleType, score: float, wanted: float
) -> None:
    assert routers.saved(score, np.array([30.0, 31.0, 30.9]), COSTS, 5e3) == pytest.approx(1 - 5e3 / wanted)


def test_a_price_of_other_pictures_keeps_their_budget(routers: ModuleType, pictures: ModuleType) -> None:
    learned = known(routers, np.random.default_rng(0).random(200).tolist())
    route = pictures.with_price(lambda one: -one.psnr, learned, learned, COSTS, 40e3)
    assert 36e3 < COSTS[route].mean() <= 40e3


def test_halos_cost_most_around_small_tiles(pictures: ModuleType) -> None:
    assert pictures.halo_price(256, 0) == 0
    assert pictures.halo_price(64, 32) == 3
    assert pictures.halo_price(512, 24) < pictures.halo_price(256, 24)


@pytest.mark.parametrize(("gain", "saved", "pays"), [(0.03, 0.0, True), (0.01, 0.06, True), (0.01, 0.01, False)])
def test_it_pays_by_one_of_both_measures(report: ModuleType, gain: float, saved: float, pays: bool) -> None:
    assert report.pays([{"gain": gain, "saved": saved}] * 2) is pays


def test_the_report_is_that_of_its_numbers(report: ModuleType) -> None:
    results = Path(FOLDER).parent / "docs" / "results"
    found = json.loads((results / "adaptive.json").read_text())
    assert report.report(found) == (results / "adaptive.md").read_text()
