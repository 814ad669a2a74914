"""benchmarks/level_estimator.py: the figures follow from the estimates, and the same command goes on where it stopped."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tests.training.benchmarks import benchmark

from grainwise.core.errors import InputError
from grainwise.core.pictures import Picture, write_picture
from grainwise.data.corpus import corpus_of
from grainwise.networks.level_estimator import CROP


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return benchmark("level_estimator")


@pytest.fixture(scope="module")
def tasks() -> ModuleType:
    return benchmark("level_estimator_tasks")


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return benchmark("level_estimator_report")


def pictures(folder: Path, count: int, height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(60, 190, (height, width, 3)).astype(np.uint8)
        write_picture(folder / f"{index}.png", pixels, Picture(pixels))


def test_near_is_less_and_within_is_at_most(bench: ModuleType) -> None:
    told = bench.figures([[25.0, 26.0], [27.0, 28.0], [24.5, 25.5]], 25.0, (1, 2))
    assert told == pytest.approx({"error": (0.5 + 2.5 + 0.5) / 3, "near": 1.5 / 3, "within": 2.5 / 3})


def test_steps_are_those_of_all_or_of_one(bench: ModuleType) -> None:
    assert bench.steps_of([]) == dict.fromkeys(bench.SUBJECTS, bench.STEPS)
    assert bench.steps_of(["200", "sr=7"]) == {"denoise": 200, "dejpeg": 200, "sr": 7}
    for wrong in ("much", "0", "blur=3", "sr=", "sr=0"):
        with pytest.raises(ValueError, match="steps|invalid"):
            bench.steps_of([wrong])


def test_a_random_crop_is_decided_by_the_pixels(bench: ModuleType) -> None:
    x = torch.rand(1, 3, 300, 200)
    crop = bench.any_crop(x)
    assert crop.shape == (1, 3, CROP, CROP)
    assert torch.equal(crop, bench.any_crop(x.clone()))
    assert len({float(bench.any_crop(torch.rand(1, 3, 300, 200))[0, 0, 0, 0]) for _ in range(4)}) == 4
    assert bench.any_crop(x[..., :100]).shape == (1, 3, CROP, 100)


@pytest.mark.parametrize("name", ["denoise", "dejpeg", "sr"])
def test_every_protocol_of_a_task_is_taught(name: str, tasks: ModuleType, tmp_path: Path) -> None:
    pictures(tmp_path / "train", 2, 300, 300)
    corpus = corpus_of([tmp_path / "train"], tmp_path / "cache", smallest=CROP + 16)
    subject = tasks.SUBJECTS[name]
    lessons = tasks.lessons_of(subject, corpus)
    first, again = (lessons.batch(CROP, 2, (0, 1)) for _ in range(2))
    assert first.noisy.shape == (2 * tasks.EVERY, 3, CROP, CROP)
    assert torch.equal(first.noisy, again.noisy)
    low, high = sorted(subject.level_range)
    assert low <= float(first.degradation.min()) < float(first.degradation.max()) <= high
    assert lessons.batch(CROP, 1, (0, 1)).noisy.shape[0] == tasks.EVERY
    assert tasks.estimator_of(subject, 0).task == subject.task
    clean = np.random.default_rng(0).random((60, 66, 3), np.float32)
    for test in subject.tests:
        for level in subject.levels:
            assert np.abs(test.degrade("a", clean, level)).max() > 0
    assert len({test.slug for test in subject.tests}) == len(subject.tests)


def test_the_price_is_judged_over_seeds(report: ModuleType) -> None:
    ways = {report.LEARNED: (-0.01, -0.02), report.ONE_CROP: (-0.2, -0.21), report.CLASSICAL: (0.0, 0.0)}
    rows = {
        level: {report.TOLD: [30.0, 30.1], **{way: [30 + a, 30.1 + b] for way, (a, b) in ways.items()}}
        for level in ("15", "25")
    }
    text = "\n".join(report.costs({"denoise": {"psnr": rows}, "sr": {"psnr": {}}}, 8))
    assert "| denoise, 15 | 30.05 | -0.015 | -0.205 | +0.000 |" in text
    verdicts = [line.split(" | ")[1].split(" (")[0] for line in text.splitlines() if "blind costs" in line]
    assert verdicts == ["holds", "does not hold", "holds"]
    assert not list(report.costs({"sr": {"psnr": {}}}, 8))


def test_a_toy_run_goes_on_and_reports(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "train", 2, 300, 300)
    for name in ("cbsd68", "kodak24"):
        pictures(tmp_path / "test" / name, 1, 140, 150)
    arguments = ["--train", str(tmp_path / "train"), "--test", str(tmp_path / "test"), "--tasks", "denoise", "--steps", "2",
                 "--crops", "1", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out"),
                 "--report", str(tmp_path / "r.md"), "--hyper", str(tmp_path / "none")]  # fmt: skip
    bench.main(arguments)
    assert "training denoise: 2 steps" in capsys.readouterr().out
    text = (tmp_path / "r.md").read_text()
    assert text.startswith("# The level, blind")
    assert "98.23 %" in text
    assert "What the error costs" not in text
    numbers = json.loads((tmp_path / "r.json").read_text())["tasks"]["denoise"]
    assert numbers["training"]["steps"] == 2
    for levels in numbers["accuracy"].values():
        assert list(levels) == ["5", "15", "25", "50", "75"]
        for row in levels.values():
            assert set(row) == {"estimator, grid", "estimator, one crop", "classical"}
    assert numbers["seconds"]["picture"] == [150, 140]
    monkeypatch.setattr(bench, "train_estimator", lambda *_, **__: pytest.fail("it is trained already"))
    monkeypatch.setattr(bench.Bench, "degraded", lambda *_: iter([np.zeros((130, 130, 3), np.float32)]))
    bench.main(arguments)
    again = json.loads((tmp_path / "r.json").read_text())["tasks"]["denoise"]
    assert again["accuracy"] == numbers["accuracy"]
    with pytest.raises(InputError, match="another --out"):
        bench.main([*arguments, "--steps", "3"])
    with pytest.raises(InputError, match="another --out"):
        bench.main([*arguments, "--crops", "2"])
    with pytest.raises(SystemExit):
        bench.main([*arguments, "--limit", "0"])
