"""Files are read and written beside the network where a core is idle, and nothing but the time tells."""

import json
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grainwise.cli import all_files, beside, early
from grainwise.cli.beside import Beside, core_to_spare
from grainwise.cli.paths import Job
from grainwise.core.pictures import Picture, read_picture, write_picture
from grainwise.networks.checkpoint import save_weights
from tests.cli.conftest import Ran, noisy_pixels
from tests.runtime.small import small_weights

Run = Callable[..., Ran]
ANY: Any = None
"""The task, which puts lines into words; these are JSON."""
TIMES = {"seconds", "seconds_predicted", "seconds_read", "seconds_estimate", "seconds_network", "seconds_write"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights = small_weights()
    save_weights(tmp_path / "w.safetensors", weights.network, weights.card)
    return tmp_path / "w.safetensors"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for index in range(5):
        pixels = noisy_pixels(seed=index)
        write_picture(tmp_path / "in" / f"{index}.png", pixels, Picture(pixels))
    (tmp_path / "in" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return tmp_path / "in"


def told(
    run: Run, monkeypatch: pytest.MonkeyPatch, overlap: bool, *arguments: object
) -> tuple[int, list[dict[str, Any]]]:
    monkeypatch.setattr(all_files, "core_to_spare", lambda _: overlap)
    ran = run("denoise", *arguments, "--json", "--sigma", 25, "--budget", "fast", "--dtype", "float32")
    kept = TIMES | {"megapixels_per_second", "output"}
    lines = [json.loads(line) for line in ran.out.splitlines()]
    return ran.code, [{key: value for key, value in line.items() if key not in kept} for line in lines]


def test_nothing_but_the_time_tells(
    run: Run, pictures: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[str] = []
    true = read_picture

    def noted(path: Path) -> Picture:
        readers.append(threading.current_thread().name)
        return true(path)

    monkeypatch.setattr(early, "read_picture", noted)
    monkeypatch.setattr(beside, "read_picture", noted)
    results = {}
    for overlap in (False, True):
        readers.clear()
        out = tmp_path / f"out{overlap}"
        results[overlap] = told(run, monkeypatch, overlap, pictures, "-o", out, "--model", model)
        assert any(name.startswith("grainwise-read") for name in readers) == overlap
        assert results[overlap][0] == 1
        assert ["error" in line for line in results[overlap][1]] == [False, False, True, False, False]
        assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "3.png", "4.png"]
    assert results[False] == results[True]
    for name in ("0.png", "1.png", "3.png", "4.png"):
        one, other = (read_picture(tmp_path / f"out{overlap}" / name).pixels for overlap in (False, True))
        assert np.array_equal(one, other)


def test_what_cannot_be_written_is_told_of_its_own_picture(
    run: Run, pictures: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / "1.png").mkdir(parents=True)
    code, lines = told(run, monkeypatch, True, pictures, "-o", tmp_path / "out", "--model", model)
    assert code == 1
    assert ["error" in line for line in lines] == [False, True, True, False, False]
    assert "1.png" in lines[1]["error"]


def test_a_run_that_is_stopped_leaves_whole_files_alone(
    run: Run, pictures: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, calls = beside.Beside.read, []

    def stopped(self: Beside, path: Path) -> Picture:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return true(self, path)

    monkeypatch.setattr(beside.Beside, "read", stopped)
    assert told(run, monkeypatch, True, pictures, "-o", tmp_path / "out", "--model", model)[0] == 130
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0.png"]
    assert read_picture(tmp_path / "out" / "0.png").pixels.shape == (40, 56, 3)


def test_a_core_is_idle_beside_a_gpu_or_fewer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for threads, idle in ((1, True), (3, True), (4, False), (8, False)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert core_to_spare(torch.device("cpu")) == idle
        assert core_to_spare(torch.device("cuda"))


def test_a_large_picture_is_not_read_ahead(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true, size = early.read_picture, 40 * 56 * 3
    readers: list[str] = []

    def noted(path: Path) -> Picture:
        readers.append(threading.current_thread().name)
        return true(path)

    monkeypatch.setattr(early, "read_picture", noted)
    monkeypatch.setattr(beside, "read_picture", noted)
    for free, aside in ((8 * size - 8, False), (8 * size, True)):
        monkeypatch.setattr(beside.memory, "available_bytes", lambda free=free: free)
        readers.clear()
        with Beside(active=True) as here:
            here.read_ahead(pictures / "0.png")
            assert here.read(pictures / "0.png").pixels.shape == (40, 56, 3)
        assert [name.startswith("grainwise-read") for name in readers] == [aside]


def test_the_first_picture_is_read_while_the_rest_is_imported(
    run: Run, pictures: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[str] = []
    true = early.read_picture

    def noted(path: Path) -> Picture:
        readers.append(threading.current_thread().name)
        return true(path)

    monkeypatch.setattr(early, "read_picture", noted)
    monkeypatch.setattr(beside, "read_picture", noted)
    common = ("-o", tmp_path / "out", "--model", model, "--sigma", 25, "--dtype", "float32", "--json")
    files = [pictures / f"{index}.png" for index in (0, 1)]
    assert run("denoise", *files, *common).code == 0
    assert [name.startswith("grainwise-early") for name in readers] == [True, False]
    for more in (("--dry-run",), ("--skip-existing",), ("--max-memory", 4000), ("--max-seconds", 60)):
        readers.clear()
        assert run("denoise", *files, *common, *more).code == 0
        assert not any(name.startswith("grainwise-early") for name in readers)
    readers.clear()
    assert "cannot read" in run("denoise", pictures / "2.png", *common).err
    monkeypatch.setattr(early, "LARGEST", 40 * 56 * 3 - 1)
    large = early.begin([str(files[0])])
    assert large is not None
    assert large.take() is None
    assert early.begin([str(pictures)]) is early.begin([]) is early.begin([""]) is None


def test_a_picture_that_was_read_early_is_let_go(
    run: Run, pictures: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[np.ndarray]] = []
    true, alive = all_files.FileRestorer.restore, []

    def restore(self: all_files.FileRestorer, job: Job, *given: Any) -> all_files.Finish:
        alive.append([pixels() is not None for pixels in held])
        return true(self, job, *given)

    def noted(path: Path) -> Picture:
        picture = read_picture(path)
        held.append(weakref.ref(picture.pixels))
        return picture

    monkeypatch.setattr(early, "read_picture", noted)
    monkeypatch.setattr(all_files, "core_to_spare", lambda _: False)
    monkeypatch.setattr(all_files.FileRestorer, "restore", restore)
    files = [pictures / f"{index}.png" for index in (0, 1)]
    common = ("-o", tmp_path / "out", "--model", model, "--sigma", 25, "--dtype", "float32")
    assert run("denoise", *files, *common).code == 0
    assert alive[1] == [False]
    here = Beside(active=False, first=early.begin([str(files[0])]))
    here.drop(files[0])
    assert held[-1]() is None


def test_a_file_that_was_replaced_is_read_again(pictures: Path) -> None:
    first = early.begin([str(pictures / "0.png")])
    pixels = noisy_pixels(24, 32)
    write_picture(pictures / "0.png", pixels, Picture(pixels))
    assert Beside(active=False, first=first).read(pictures / "0.png").pixels.shape == (24, 32, 3)
    gone = early.begin([str(pictures / "1.png")])
    (pictures / "1.png").unlink()
    assert gone is not None
    assert gone.take() is None


class Pixels:
    """What a picture's closure holds."""


def jobs(folder: Path) -> list[Job]:
    return [Job(folder / f"{index}.png", folder / f"out-{index}.png") for index in range(3)]


@pytest.mark.parametrize("beside_it", [False, True])
def test_a_picture_is_let_go_before_the_next_is_begun(beside_it: bool, tmp_path: Path) -> None:
    held: list[weakref.ref[Pixels]] = []

    def one(job: Job) -> all_files.Finish:
        gone = held[:-1] if beside_it else held  # the last one is being written
        deadline = time.monotonic() + 10
        while any(ref() is not None for ref in gone):
            assert time.monotonic() < deadline
            time.sleep(0.01)  # the writer lets go a moment after it is done
        pixels = Pixels()
        held.append(weakref.ref(pixels))
        return lambda: {"picture": id(pixels)}

    with ThreadPoolExecutor(1) as pool:
        writer = pool if beside_it else None
        assert all_files._each(jobs(tmp_path), ANY, one, skip_existing=False, as_json=True, writer=writer) == 0
    assert len(held) == 3


def test_what_was_written_is_told_when_the_next_is_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def one(job: Job) -> all_files.Finish:
        if job.source.name == "1.png":
            raise KeyboardInterrupt
        return dict

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        all_files._each(jobs(tmp_path), ANY, one, skip_existing=False, as_json=True, writer=pool)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["input"].endswith("0.png")
