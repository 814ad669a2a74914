"""The verdicts of benchmarks/mdrn.py follow from the numbers."""

import argparse
from pathlib import Path
from types import ModuleType

import pytest
from tests.training.benchmarks import benchmark


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return benchmark("mdrn")


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.10, 0.12, 0.11], "holds (+0.110"),
        ([0.10, -0.12, 0.11], "undecided (+0.030"),
        ([-0.10, -0.12, -0.11], "does not hold (-0.110"),
        ([0.001, 0.002, 0.001], "does not hold (+0.001"),
        ([0.02, 0.10], "undecided (+0.060"),
        ([0.09, 0.10], "holds (+0.095"),
        ([0.02, 0.05, 0.08], "undecided (+0.050"),
        ([-0.02, -0.10], "undecided (-0.060"),
        ([0.3], "undecided, one seed for it"),
        ([-0.3], "undecided, one seed against it"),
        ([], "not measured"),
    ],
)
def test_a_gain_must_be_clear_of_its_spread(bench: ModuleType, gains: list[float], verdict: str) -> None:
    assert bench.judge(gains).startswith(verdict)


def test_at_least_as_good_needs_no_gain(bench: ModuleType) -> None:
    assert bench.judge([0.001, 0.0]).startswith("does not hold")
    assert bench.judge([0.001, 0.0], least=0.0).startswith("holds")
    assert bench.judge([0.5, -0.3], least=0.0).startswith("undecided")
    assert bench.judge([-0.1, -0.11], least=0.0).startswith("does not hold")


def test_each_claim_is_judged_on_its_levels_and_seed_by_seed(bench: ModuleType) -> None:
    def scores(base: float, high: float) -> dict[str, object]:
        levels = {10: base, 50: base - 8 + high, 70: base - 9 + high}
        psnr = {f"cbsd68 {level}": value for level, value in levels.items()}
        return {"psnr": psnr, "parameters": 500_000, "macs_per_pixel": 14_000, "steps": 1, "seconds": 60.0}

    results = {}
    for seed, base in enumerate((36.4, 36.5, 36.6)):
        results[bench.Run("steps", "tiny", "alone", seed)] = scores(base, 0.0)
        results[bench.Run("steps", "tiny", "S2", seed)] = scores(base, 0.2 + seed / 100)
        results[bench.Run("steps", "tiny", "U-Net", seed)] = scores(base + 1, 0.0)
    told = dict(bench.verdicts(results, None))
    judged = {claim.split(" (")[0]: verdict.split(" (")[0] for claim, verdict in told.items()}
    assert judged == {
        "S2 improves the tiny model": "holds",
        "S2 improves it at high noise": "holds",
        "S2 helps more there than at sigma 10 and 15": "holds",
        "MDRN is better than a U-Net as costly": "does not hold",
        "tiny": "holds",
    }
    assert sum("as published" in claim and "these very pictures" in claim for claim in told) == 2
    assert not any("as published" in claim for claim, _ in bench.verdicts(results, 10))
    alone = {run: row for run, row in results.items() if run.seed == 0}
    assert not any("as published" in claim for claim, _ in bench.verdicts(alone, None))
    assert any("+0.210 dB, seeds +0.200, +0.210, +0.220" in verdict for verdict in told.values())
    row = next(line for line in bench.table(results, "steps") if line.startswith("| tiny | S2 |"))
    assert row == "| tiny | S2 | 14,000 | 500,000 | 1 | 1.0 | 3 | 36.50 ± 0.10 | 28.71 ± 0.11 | 27.71 ± 0.11 |"


def test_the_report_is_of_all_runs_there(bench: ModuleType, tmp_path: Path) -> None:
    runs = [bench.Run("steps", "tiny", "S1-other", 1), bench.Run("minutes", "small", "U-Net", 0)]
    for run in [*runs, bench.Run("teacher", "small", "alone", 0), bench.Run("steps", "tiny", "alone", 2)]:
        (tmp_path / run.name).mkdir()
        (tmp_path / run.name / "scores.json").write_text("{}")
        if run.seed != 2:
            (tmp_path / run.name / "weights.safetensors").touch()
    args = argparse.Namespace(
        test=tmp_path, sets=["cbsd68"], levels=[25], limit=None, ssim=False, out=tmp_path, steps=1, minutes=0
    )
    assert bench.Bench(args).there() == runs[::-1]


def test_taps_pair_blocks_that_are_as_far_along(bench: ModuleType) -> None:
    assert bench.block_taps("tiny", "base") == "blocks.0=blocks.1,blocks.1=blocks.2,blocks.2=blocks.3"
    assert bench.block_taps("tiny", "tiny") == ",".join(f"blocks.{i}=blocks.{i}" for i in range(3))
