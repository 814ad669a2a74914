"""The verdicts of benchmarks/malleconv.py follow from its numbers, and what it compares costs alike."""

import argparse
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.training.benchmarks import benchmark

from grainwise.core.errors import InputError
from grainwise.networks.registry import create_network
from grainwise.primitives.malle_conv import MalleConv


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return benchmark("malleconv")


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return benchmark("malleconv_report")


def macs(build: tuple[str, dict[str, Any]]) -> float:
    network = create_network(*build)
    return network.macs_per_pixel(network.space.widest)


@pytest.mark.parametrize("width", [16, 32])
def test_networks_that_are_compared_cost_alike(bench: ModuleType, width: int) -> None:
    first, *others = (macs(build) for build in bench.networks(width).values())
    assert others == pytest.approx([first] * len(others), rel=0.015)


@pytest.mark.parametrize("name", ["half_unet", "mdrn", "flat"])
def test_a_backbone_is_narrowed_to_pay_for_one_malleconv(bench: ModuleType, name: str) -> None:
    arms = bench.BACKBONES[name].arms()
    assert macs(arms["narrowed, one MalleConv"]) == pytest.approx(macs(arms["bare"]), rel=0.01)
    assert macs(arms["one MalleConv"]) > macs(arms["bare"])
    parts = [part for part in create_network(*arms["one MalleConv"]).modules() if isinstance(part, MalleConv)]
    assert len(parts) == 1


def test_every_ablation_is_another_network_that_can_be_built(bench: ModuleType) -> None:
    built = [create_network(*bench.ablation(name)).config for name in bench.ABLATIONS]
    assert all(one != other for i, one in enumerate(built) for other in built[:i])


def test_no_two_runs_share_a_folder(bench: ModuleType) -> None:
    names = [bench.Run("ablation", "flat", arm, seed).name for arm in bench.ABLATIONS for seed in (0, 1)] + [
        bench.Run("networks", "C = 16", arm, 0).name for arm in bench.networks(16)
    ]
    assert len(set(names)) == len(names)


def row(arm: str, seed: int, psnr: float, *, seconds: float = 1.0, group: str = "half_unet") -> dict[str, Any]:
    return {
        "part": "added", "group": group, "arm": arm, "seed": seed, "psnr": {"cbsd68 15": psnr, "cbsd68 25": psnr - 3},
        "macs_per_pixel": 28_000, "parameters": 500_000, "steps": 10, "seconds": 60.0, "gates": [0.25],
        "seconds_per_megapixel": seconds, "peak_mib": 100.0,
    }  # fmt: skip


def test_one_malleconv_is_judged_seed_by_seed_and_at_its_price(report: ModuleType) -> None:
    rows = [row("bare", 0, 33.0), row("bare", 1, 33.5)]
    rows += [row("one MalleConv", 0, 33.1, seconds=1.5), row("one MalleConv", 1, 33.4, seconds=1.5)]
    rows += [
        row("narrowed, one MalleConv", 0, 33.1, seconds=0.9),
        row("narrowed, one MalleConv", 1, 33.62, seconds=0.9),
    ]
    told = dict(report.added_verdicts(rows, "half_unet"))
    assert told[
        "half_unet: one MalleConv raises PSNR at equal MACs/px (1.000x the MACs/px, 0.90x the seconds)"
    ].startswith("holds (+0.110 dB, seeds +0.100, +0.120")
    assert told[
        "half_unet: one MalleConv raises PSNR, its cost added (1.000x the MACs/px, 1.50x the seconds)"
    ].startswith("undecided (+0.000")
    assert told["half_unet: one MalleConv lowers the seconds at equal PSNR"].startswith(
        "holds (+0.110 dB, 0.90x the seconds"
    )
    assert report.faster([0.3], 0.9).startswith("undecided")
    assert report.faster([0.02, -0.02], 0.9).startswith("undecided")
    assert report.faster([0.1, 0.12], 0.98).startswith("does not hold")
    assert report.faster([-0.1, -0.1], 0.9).startswith("does not hold")
    lines = report.table(rows, "half_unet", against="bare")
    assert (
        "| one MalleConv | 28,000 | 500,000 | 10 | 1.0 | 33.25 ± 0.21 | 30.25 ± 0.21 | +0.000 | 1.500 | 100 | 0.25 |"
        in lines
    )


def test_each_ablation_is_judged_against_the_base(report: ModuleType) -> None:
    rows = [row("base", 0, 33.0, group="flat"), row("1x1", 0, 32.9, group="flat")]
    rows += [row("base", 1, 33.1, group="flat"), row("1x1", 1, 32.99, group="flat")]
    ((claim, verdict),) = report.ablation_verdicts(rows)
    assert claim == "ablation, flat: better with 1x1"
    assert verdict.startswith("does not hold (-0.105")


def test_mallenet_is_judged_against_each_other_network(report: ModuleType) -> None:
    rows = [row("MalleNet", 0, 33.0), row("U-Net", 0, 33.2), row("MalleNet", 1, 33.0), row("U-Net", 1, 33.21)]
    ((claim, verdict),) = report.network_verdicts(rows, "half_unet")
    assert claim == "MalleNet is better than U-Net"
    assert verdict.startswith("does not hold (-0.205")


def operator(device: str = "cpu", **native: float) -> dict[str, Any]:
    def measured(form: str, direction: str, ms: float, mib: float) -> dict[str, Any]:
        gradients = 73.0 if direction == "backward" else 0
        return {
            "form": form, "direction": direction, "dtype": "float32", "milliseconds": ms, "best_milliseconds": ms,
            "extra_mib": mib, "gradients_mib": gradients,
        }  # fmt: skip

    rows = [
        measured("static depthwise convolution", "forward", 10, 64),
        measured("unfold", "forward", 1000, 1800),
        measured("per_tap", "forward", 400, 500),
        measured("native", "forward", native.get("ms", 100), native.get("mib", 64)),
        measured("unfold", "backward", 1000, 3000),
        measured("native", "backward", 100, 273),
    ]
    about = {"channels": 64, "size": 512, "stride": 8, "machine": "any", "threads": 1, "torch": "2", "runs": 3}
    return {**about, "device": device, "error": {"native": 1e-6}, "rows": rows}


def test_the_bounds_of_the_operator_are_told_as_measured(report: ModuleType) -> None:
    assert [verdict for _, verdict in report.operator_verdicts(operator())] == [
        "holds (2.5x)",
        "does not hold (1/3.6)",
        "holds (10.0x)",
        "holds (1.00)",
        "holds (10.0x)",
        "does not hold (3.12)",
    ]
    assert report.operator_verdicts(operator(ms=210))[2][1] == "does not hold (4.8x)"


def test_the_page_holds_every_part_that_was_measured(report: ModuleType, tmp_path: Path) -> None:
    added = [row("bare", 0, 33.0), row("one MalleConv", 0, 33.1)]
    setup = {"limit": 1, "networks_limit": None, "batch": 2, "crop": 32, "minutes": 1.0}
    page = tmp_path / "malleconv.md"
    report.write(page, [operator()], {"added": added, "networks": []}, "python x.py", setup)
    text = page.read_text()
    assert "## The operator, CPU" in text
    assert "one MalleConv raises PSNR, its cost added" in text
    assert "equal MACs/px and 1 minutes" not in text
    assert page.with_suffix(".json").exists()


def test_rows_of_earlier_calls_are_kept(bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"out": tmp_path, "test": tmp_path, "limit": 1, "networks_limit": None, "backbones": ["flat"]}
    monkeypatch.setattr(bench, "gates", lambda _: [])
    monkeypatch.setattr(
        bench.Bench, "times", lambda _, part, runs: {"flat: bare": {"seconds_per_megapixel": len(runs)}}
    )

    def scores(self: Any, name: str, make: Any, scoring: Any) -> dict[str, Any]:
        (self.out / name).mkdir(parents=True, exist_ok=True)
        (self.out / name / "weights.safetensors").touch()
        return {"psnr": {"cbsd68 25": len(calls)}}

    monkeypatch.setattr(bench.Runs, "scores", scores)
    calls: list[Any] = []
    for seeds in ([1], [0, 1], [0]):
        made = bench.Bench(argparse.Namespace(**settings, seeds=seeds))
        rows = made.measure("added")
        made.runs.write("rows-added", rows)
        calls.append(made)
    assert [(row["seed"], row["psnr"]["cbsd68 25"]) for row in rows if row["arm"] == "bare"] == [(0, 2), (1, 1)]
    assert [row["seconds_per_megapixel"] for row in rows if row["arm"] == "bare"] == [6, 6]
    assert len(rows) == 6


def test_a_folder_is_not_shared_by_runs_of_other_settings(tmp_path: Path) -> None:
    runs = benchmark("resumable_runs")

    def opened(**settings: float) -> Any:
        return runs.Runs(tmp_path, settings, addable=("steps", "minutes"))

    opened(steps=10, minutes=0.0, quiet=0.5)
    again = opened(steps=10, minutes=2.0, quiet=0.5)
    assert again.note("settings", dict) == {"steps": "10", "minutes": "2.0", "quiet": "0.5"}
    opened(steps=0, minutes=2.0, quiet=0.5)
    with pytest.raises(InputError, match="another minutes"):
        opened(steps=10, minutes=3.0, quiet=0.5)
    with pytest.raises(InputError, match="another quiet"):
        opened(steps=10, minutes=2.0, quiet=0.0)
    assert again.note("pace", lambda: {"seconds": 1}) == again.note("pace", lambda: {"seconds": 2})
