"""benchmarks/hyperres.py: the verdicts follow from the numbers, and the same command goes on where it stopped."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tests.training.benchmarks import benchmark

from grainwise.core.errors import InputError
from grainwise.core.pictures import Picture, write_picture

FOR, AGAINST = "undecided, one seed for it", "undecided, one seed against it"
TRAINED = {"denoise": (15.0, 75.0), "dejpeg": (10.0, 80.0), "sr": (2.0, 4.0)}


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return benchmark("hyperres")


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return benchmark("hyperres_report")


def one_seed(found: object) -> object:
    """Every figure as a list of one."""
    return {key: one_seed(value) for key, value in found.items()} if isinstance(found, dict) else [found]


def judged(report: ModuleType, found: dict) -> dict[str, str]:
    return {claim: verdict.split(" (")[0] for claim, verdict in report.verdicts(one_seed(found), TRAINED)}


def test_claims_are_judged(report: ModuleType) -> None:
    def rows(gap: float) -> dict:
        return {
            5.0: {"hyper": 40.0},
            15.0: {"hyper": 30 + gap, "dedicated": 30.0},
            75.0: {"hyper": 25, "dedicated": 25},
        }

    told = judged(report, {"tables": {"denoise": rows(-0.1), "sr": rows(-0.3)}})
    assert list(told.values()) == [FOR, AGAINST]
    between = {
        level: {"hyper": 30.0, "AdaFM": 29.0 + (level == 85) * 2, "DNI": 29.5}
        for level in (5.0, 15.0, 45.0, 75.0, 85.0)
    }
    assert list(judged(report, {"between": between}).values()) == [FOR, FOR, AGAINST, FOR]
    curve = {0.8: 29.0, 1.0: 30.0, 1.2: 29.4}
    for shift, expected in ((1.0, FOR), (1.3, AGAINST)):
        told = judged(report, {"input": {15.0: {share * shift: value for share, value in curve.items()}}})
        assert list(told.values()) == [expected]
    blind = {"dejpeg": {10.0: {"told": 29.0, "blind": 28.99}, 80.0: {"told": 38.0, "blind": 37.8}}}
    assert list(judged(report, {"blind": blind}).values()) == [AGAINST]
    near, far = ({15.0: {"slimmable": 30.0, "longer": 30.1, "alone": alone}} for alone in (30.05, 30.22))
    assert list(judged(report, {"widths": {16: near, 24: far}}).values()) == [FOR, FOR, AGAINST, AGAINST]


def test_the_best_share_is_the_top_of_the_curve(report: ModuleType) -> None:
    top = {share: 30 - (share - 1.03) ** 2 for share in (0.8, 0.9, 1.0, 1.1, 1.2)}
    assert report.best_share(top) == pytest.approx(1.03)
    assert report.best_share({0.5: 3.0, 1.0: 2.0, 1.5: 1.0}) == 0.5


def test_several_seeds_decide(report: ModuleType) -> None:
    def found(*gaps: float) -> dict:
        return {"tables": {"sr": {2.0: {"hyper": [30 + gap for gap in gaps], "dedicated": [30.0 for _ in gaps]}}}}

    for gaps, verdict in (((-0.05, -0.052), "holds"), ((-0.3, -0.31), "does not hold"), ((-0.3, 0.3), "undecided")):
        ((_, told),) = report.verdicts(found(*gaps), TRAINED)
        assert told.startswith(f"{verdict} (")
    lines = report.task_table("sr", {2.0: {"hyper": [30.0, 30.2], "dedicated": [30.1, 30.3]}})
    assert "| 2 | 30.20 ± 0.14 | 30.10 ± 0.14 | -0.10 | 36.95 | 36.71 | -0.24 |" in lines


def test_rivals_are_judged_beside_one_another(report: ModuleType) -> None:
    rows = {level: {"hyper": 30.0, "CResMD": 29.9, "CFSNet": 30.1} for level in (5.0, 15.0, 45.0, 75.0)}
    assert list(judged(report, {"rivals": rows}).values()) == [FOR, AGAINST, FOR, AGAINST]


def test_ours_and_the_papers_stand_in_columns_of_their_own(report: ModuleType) -> None:
    lines = report.task_table("dejpeg", {10.0: {"hyper": [27.5], "dedicated": [27.6]}, 90.0: {"hyper": [40.0]}})
    assert "| 10 | 27.60 | 27.50 | -0.10 | 28.82 | 28.81 | -0.01 |" in lines
    assert "| 90 |  | 40.00 |  |  |  |  |" in lines
    assert "| 70 |  |  |  | 36.40 | 36.38 | -0.02 |" in lines


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_no_pictures_are_refused(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--train", "a", "--test", "b", "--out", str(tmp_path / "out"), "--limit", limit])
    assert f"--limit is at least 1, got {limit}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_toy_run_is_planned_goes_on_and_reports(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(60, 190, (112, 112, 3)).astype(np.uint8)
        write_picture(tmp_path / "train" / f"{index}.png", pixels, Picture(pixels))
    for name in ("cbsd68", "set5"):
        pixels = rng.integers(60, 190, (36, 48, 3)).astype(np.uint8)
        write_picture(tmp_path / "test" / name / "a.png", pixels, Picture(pixels))
    common = ["--train", tmp_path / "train", "--test", tmp_path / "test", "--steps", 2, "--blocks", 1, "--crop", 16,
              "--batch", 1, "--set", "hold_out=3", "--set", "crops.shares=[1.0]", "--cache", tmp_path / "cache",
              "--out", tmp_path / "out", "--report", tmp_path / "r.md"]  # fmt: skip
    arguments = [str(part) for part in common]
    monkeypatch.setattr(bench, "PACED", 3)
    bench.main([*arguments, "--tasks", "sr", "--plan", "--steps", "500"])
    told = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[0] for line in told[:2]] == ["tables: 5 networks to train", "blind: 0 networks to train"]
    assert [line.split()[0] for line in told[2:]] == ["together"]
    assert not list(tmp_path.glob("out/*/*/weights.safetensors"))
    assert not (tmp_path / "r.md").exists()
    bench.main([*arguments, "--parts", "tables", "--tasks", "sr"])
    assert "training seed-0/sr-hyper" in capsys.readouterr().out
    assert (tmp_path / "r.md").read_text().count("own network, ours") == 1
    parts = ["--parts", "between", "rivals", "input", "blind", "widths", "--tasks", "denoise"]
    bench.main([*arguments, *parts])
    text = (tmp_path / "r.md").read_text()
    assert text.startswith("# HyperRes")
    for claim in ("beats AdaFM", "beats DNI", "beats CResMD", "beats CFSNet", "best input level", "blind costs",
                  "width 24 within"):  # fmt: skip
        assert claim in text
    capsys.readouterr()
    bench.main([*arguments, *parts])
    assert capsys.readouterr().out.splitlines()[-1].startswith("together 0.0 min")
    assert (tmp_path / "r.md").read_text().split("commit")[0] == text.split("commit")[0]
    numbers = json.loads((tmp_path / "r.json").read_text())
    assert set(numbers["between"]["22"]) == {"hyper", "AdaFM", "DNI"}
    assert len(numbers["input"]["45"]) == len(bench.TOLD)
    assert numbers["costs"]["denoise-cfsnet"]["parameters"] > 0
    with pytest.raises(InputError, match="another --out"):
        bench.main([*arguments, "--steps", "3", "--parts", "input"])
    bench.main([*arguments, "--parts", "input", "--tasks", "denoise", "--seeds", "0", "1"])
    assert len(json.loads((tmp_path / "r.json").read_text())["input"]["45"]["1.0"]) == 2
