"""Limits of time and memory on the command line, and what is told beforehand."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grainwise.cli.all_files import Remaining
from grainwise.core.pictures import Picture, read_picture, write_picture
from grainwise.networks.checkpoint import load_weights, save_weights
from grainwise.runtime import calibration
from grainwise.runtime.cost import CostModel
from tests.cli.conftest import Ran, noisy_pixels
from tests.runtime.small import small_weights

Run = Callable[..., Ran]
COST = {plan.name: plan.macs_per_pixel for plan in load_weights("default").card.plans if plan.name}


def told(ran: Ran) -> dict:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


@pytest.mark.parametrize(
    ("limit", "budget", "name"),
    [(60, None, "best"), (0.0045, None, "fast"), (60, "fast", "fast"), (0.0045, "best", "fast")],
)
def test_a_time_limit_chooses_the_plan(
    run: Run, folder: Path, tmp_path: Path, timed_machine: CostModel, limit: float, budget: str | None, name: str
) -> None:
    more = [] if budget is None else ["--budget", budget]
    ran = run(
        "denoise", folder / "a.png", "-o", tmp_path / "o.png", "--max-seconds", limit, *more, "--json", "--sigma", 25
    )
    line = told(ran)
    assert next(iter(line["plans"])) == line["plan"]
    costs = {m.macs_per_pixel: plan for plan, m in timed_machine.plans.items()}
    assert line["plan"] == costs[COST[name]]
    assert line["seconds_predicted"] > 0


def test_a_dry_run_tells_and_writes_nothing(run: Run, folder: Path, tmp_path: Path, timed_machine: CostModel) -> None:
    before = sorted(tmp_path.rglob("*"))
    lines = [
        json.loads(line)
        for line in run("denoise", folder, "-o", tmp_path / "out", "--dry-run", "--json").out.splitlines()
    ]
    assert sorted(tmp_path.rglob("*")) == before
    assert len(lines) == 3
    for line in lines:
        assert line["dry_run"] is True
        assert (line["macs_per_pixel"], line["tiles"], line["in_rows"]) == (COST["balanced"], 1, False)
        assert line["seconds_predicted"] == pytest.approx(
            sum(line[f"seconds_predicted_{step}"] for step in ("read", "estimate", "network", "write"))
        )
        assert line["calibration_age_seconds"] > 0
        assert 100 < line["memory_predicted_mb"] < 5000
    words = run("denoise", folder / "a.png", "-o", tmp_path / "o.png", "--dry-run").out
    assert all(part in words for part in (f"{COST['balanced'] / 1000:.0f}K MACs/px", "tiles", "days ago", "MB"))


def test_a_dry_run_tells_the_plan_of_a_time_limit(
    run: Run, folder: Path, tmp_path: Path, timed_machine: CostModel
) -> None:
    common = ("denoise", folder / "a.png", "-o", tmp_path / "o.png", "--sigma", 20, "--json")
    dry = told(run(*common, "--max-seconds", 0.0045, "--dry-run"))
    assert dry["macs_per_pixel"] == COST["fast"]
    assert dry["seconds_predicted"] <= 0.0045
    idle = told(run(*common[:-3], "--strength", 0, "--dry-run", "--json"))
    assert idle["tiles"] == 0
    assert idle["seconds_predicted_network"] == 0


def test_a_dry_run_on_a_machine_that_was_not_measured(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    line = told(run("denoise", folder / "a.png", "-o", tmp_path / "o.png", "--dry-run", "--json"))
    assert line["seconds_predicted"] is None
    assert line["calibration_age_seconds"] is None
    assert "--calibrate" in run("denoise", folder / "a.png", "-o", tmp_path / "o.png", "--dry-run").out
    assert not (tmp_path / "cache").exists()


def test_pictures_too_large_for_the_time_do_not_stop_the_others(
    run: Run, folder: Path, tmp_path: Path, timed_machine: CostModel
) -> None:
    write_picture(folder / "large.png", noisy_pixels(900, 1200), Picture(noisy_pixels(900, 1200)))
    ran = run("denoise", folder, "-o", tmp_path / "out", "--max-seconds", 0.06, "--json")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 1
    assert [Path(line["input"]).name for line in lines if "error" in line] == ["large.png"]
    assert "1200x900 pixels take at least" in next(line["error"] for line in lines if "error" in line)
    assert len(list((tmp_path / "out").rglob("*.*"))) == 3


def test_a_machine_is_measured_once_and_says_so(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timed_machine: CostModel
) -> None:
    kept: list[CostModel] = []
    asked: list[bool] = []

    def measure(*arguments: object, quick: bool, **options: object) -> CostModel:
        asked.append(quick)
        return timed_machine

    monkeypatch.setattr(calibration, "load_costs", lambda machine: kept[0] if kept else None)
    monkeypatch.setattr("grainwise.runtime.restorer.load_costs", lambda machine: kept[0] if kept else None)
    monkeypatch.setattr(calibration, "keep_costs", kept.append)
    monkeypatch.setattr(calibration, "measure_costs", measure)
    for expected in (1, 0):
        ran = run("denoise", folder / "a.png", "-o", tmp_path / "o.png", "--max-seconds", 60, "--json")
        assert told(ran)["seconds"] > 0
        assert ran.err.count("measuring how fast this machine is") == expected
    assert asked == [True]


def test_the_advice_to_calibrate_works_for_other_tasks(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    values = {
        "_SIDES": (16, 32),
        "_LARGE_SIDE": 48,
        "_ESTIMATE_SIDES": (32,),
        "_CALL_SIDES": (32,),
        "_FILE_SIDE": 32,
        "_ROUNDS": 1,
    }
    for name, value in values.items():
        monkeypatch.setattr(calibration, name, value)
    monkeypatch.setattr(calibration, "_ENOUGH_SECONDS", 0.0)
    weights = small_weights(task="dejpeg")
    save_weights(tmp_path / "its own.safetensors", weights.network, weights.card)
    common = ("dejpeg", folder / "a.png", "-o", tmp_path / "o.png", "--dtype", "float32", "--level", 30)
    common = (*common, "--model", tmp_path / "its own.safetensors", "--dry-run")
    words = run(*common).out
    assert "time unknown" in words
    advice = words.partition("(grainwise ")[2].partition(" measures the machine")[0]
    assert run(*shlex.split(advice), "--dtype", "float32").code == 0
    assert "machine measured" in run(*common).out


def test_bench_calibrate(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(calibration, "_SIDES", (64, 80))
    monkeypatch.setattr(calibration, "_LARGE_SIDE", 96)
    monkeypatch.setattr(calibration, "_ESTIMATE_SIDES", (32, 48))
    monkeypatch.setattr(calibration, "_CALL_SIDES", (32,))
    monkeypatch.setattr(calibration, "_FILE_SIDE", 32)
    monkeypatch.setattr(calibration, "_ENOUGH_SECONDS", 0.0)
    line = told(run("bench", "--calibrate", "--device", "cpu", "--json"))
    assert Path(line["kept"]).parent == tmp_path / "grainwise"
    assert {cost["macs_per_pixel"] for cost in line["plans"].values()} >= set(COST.values())
    assert set(line["files"]) == {"png", "jpeg", "webp", "tiff"}
    seconds = line["seconds_by_dtype"]
    assert set(seconds) == {"float32", "bfloat16"}
    assert line["machine"]["dtype"] == min(seconds, key=lambda dtype: seconds[dtype])
    assert told(run("bench", "--calibrate", "--dtype", "float32", "--json"))["seconds_by_dtype"] == {}
    assert Path(line["kept_dtype"]).parent == tmp_path / "grainwise"
    words = run("bench", "--calibrate", "--device", "cpu").out
    assert "MACs/px" in words
    assert "--dtype auto is" in words
    assert "kept in" in words


def test_pictures_larger_than_memory_go_in_strips(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noisy_pixels(700, 500)
    alpha = np.random.default_rng(0).integers(0, 256, (700, 500), np.uint8)
    write_picture(tmp_path / "a.tif", pixels, Picture(pixels, alpha=alpha))
    common = ("denoise", tmp_path / "a.tif", "--budget", "fast", "--json", "--dtype", "float32")
    whole = told(run(*common, "-o", tmp_path / "whole.tif"))
    monkeypatch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
    dry = told(run(*common, "-o", tmp_path / "rows.tif", "--max-memory", 26, "--dry-run"))
    rows = told(run(*common, "-o", tmp_path / "rows.tif", "--max-memory", 26))
    assert (whole["in_rows"], rows["in_rows"], dry["in_rows"]) == (False, True, True)
    assert rows["tiles"] == dry["tiles"] > 2
    assert rows["sigma"] == whole["sigma"]
    a, b = read_picture(tmp_path / "whole.tif"), read_picture(tmp_path / "rows.tif")
    assert np.array_equal(a.pixels, b.pixels)
    assert np.array_equal(a.alpha, b.alpha)
    assert a.metadata == b.metadata


def test_strips_within_a_time(
    run: Run, tmp_path: Path, timed_machine: CostModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
    pixels = noisy_pixels(700, 500)
    write_picture(tmp_path / "a.png", pixels, Picture(pixels))
    common = ("denoise", tmp_path / "a.png", "-o", tmp_path / "o.tif", "--max-memory", 60, "--json")
    line = told(run(*common, "--max-seconds", 60))
    assert line["in_rows"]
    assert read_picture(tmp_path / "o.tif").pixels.shape == (700, 500, 3)
    assert "within 60 s" in read_picture(tmp_path / "o.tif").metadata.exif.decode("latin1")
    assert "at least" in run(*common, "--max-seconds", 0.01).err


def test_a_cancelled_strip_leaves_no_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
    pixels = noisy_pixels(700, 500)
    write_picture(tmp_path / "a.tif", pixels, Picture(pixels))

    def stop(self: object, share: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Remaining, "after", stop)
    ran = run("denoise", tmp_path / "a.tif", "-o", tmp_path / "o.tif", "--budget", "fast", "--max-memory", 26)
    assert ran.code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_a_memory_limit_is_kept_by_pictures_that_are_larger(tmp_path: Path) -> None:
    width, height, limit = 9000, 4000, 480
    source = tmp_path / "a.tif"
    write_picture(
        source, np.resize(noisy_pixels(64, width), (height, width, 3)), Picture(np.zeros((1, 1, 3), np.uint8))
    )
    code = (
        "import re, sys\nfrom grainwise.cli import main\n"
        f"try: main(['denoise', 'a.tif', '-o', 'o.tif', '--max-memory', '{limit}', '--strength', '0', '--json'])\n"
        "finally: print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr + run.stdout
    assert json.loads(run.stdout)["in_rows"] is True
    assert int(run.stderr.split()[-1]) / 1024 < limit
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "o.tif"]


def test_what_remains_goes_from_the_prediction_to_what_was_measured() -> None:
    now = [0.0]
    known, unknown = Remaining(10.0, lambda: now[0]), Remaining(None, lambda: now[0])
    assert (known.after(0.0), unknown.after(0.0)) == (10.0, None)
    now[0] = 10.0
    assert known.after(0.5) == pytest.approx(0.5 * (0.5 * 10 + 10))
    assert unknown.after(0.5) == 10
    assert known.after(1.0) == 0
