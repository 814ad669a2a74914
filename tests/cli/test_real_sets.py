"""Real noise on the command line: sets with references are measured, the others become submissions."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grainwise.core.pictures import Picture, write_picture
from tests.cli.conftest import Ran, noisy_pixels
from tests.data.mat_files import save_version_5
from tests.data.test_published_sets import medium, save_dnd

Run = Callable[..., Ran]


def blocks(seed: int = 0) -> np.ndarray:
    """[2, 2, 24, 32, 3] noisy blocks."""
    return np.stack([np.stack([noisy_pixels(24, 32, seed=seed + 2 * i + j) for j in range(2)]) for i in range(2)])


def sidd_val(folder: Path) -> Path:
    save_version_5(folder / "ValidationNoisyBlocksSrgb.mat", ValidationNoisyBlocksSrgb=blocks())
    save_version_5(folder / "ValidationGtBlocksSrgb.mat", ValidationGtBlocksSrgb=(blocks() // 2 + 60))
    return folder


def sidd_benchmark(folder: Path) -> Path:
    save_version_5(folder / "BenchmarkNoisyBlocksSrgb.mat", BenchmarkNoisyBlocksSrgb=blocks())
    return folder


def polyu(folder: Path) -> Path:
    for ending in ("_real", "_mean"):
        write_picture(folder / f"a{ending}.png", noisy_pixels(), Picture(noisy_pixels()))
    return folder


def before_sidd_val() -> float:
    """The PSNR of the noisy blocks that ``sidd_val`` writes."""
    errors = np.mean((blocks().astype(float) - (blocks() // 2 + 60)) ** 2, axis=(2, 3, 4))
    return float(np.mean(10 * np.log10(255**2 / errors)))


def test_the_validation_blocks_are_measured(run: Run, tmp_path: Path) -> None:
    told = json.loads(run("evaluate", "--data", f"sidd-val:{sidd_val(tmp_path)}", "--budget", "fast", "--json").out)
    assert (told["pictures"], told["data"], told["noise"], told["blind"]) == (4, "sidd-val", "real", True)
    assert told["psnr_before"] == pytest.approx(before_sidd_val(), abs=1e-4)
    assert {"psnr", "ssim", "ssim_before", "seconds", "plan"} <= set(told)


@pytest.mark.parametrize(("name", "make", "count"), [("pairs", polyu, 1), ("sidd-medium", medium, 6)])
def test_pairs_are_measured(name: str, make: Callable[[Path], Path], count: int, run: Run, tmp_path: Path) -> None:
    told = json.loads(run("evaluate", "--data", f"{name}:{make(tmp_path)}", "--budget", "fast", "--json").out)
    assert (told["pictures"], told["blind"]) == (count, True)
    assert told["data"] == (tmp_path.name if name == "pairs" else name)
    assert (told["psnr_before"] is None) == (name == "pairs")  # the two pictures of that pair are the same


def test_limit_takes_the_first(run: Run, tmp_path: Path) -> None:
    told = json.loads(run("evaluate", "--data", f"sidd-val:{sidd_val(tmp_path)}", "--limit", 3, "--json", "--rows").out)
    assert [row["name"] for row in told["rows"]] == ["00-00", "00-01", "01-00"]
    assert "before" in run("evaluate", "--data", f"sidd-val:{tmp_path}", "--limit", 1).out


def test_a_submission_to_sidd(run: Run, tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    out = tmp_path / "out" / "SubmitSrgb.mat"
    data = f"sidd-benchmark:{sidd_benchmark(tmp_path)}"
    told = json.loads(run("evaluate", "--data", data, "--budget", "fast", "--submission", out, "--json").out)
    assert told["pictures"] == 4
    assert told["psnr"] is None
    assert told["submission"] == str(out)
    held = io.loadmat(out)
    assert held["DenoisedBlocksSrgb"].shape == (2, 2)
    assert held["OptionalData"]["MethodName"].item().item() == f"grainwise default {told['plan']}"
    noisy = blocks()[1, 0].astype(float)
    assert (255 * held["DenoisedBlocksSrgb"][1, 0]).std() < noisy.std() - 3
    assert "ready to hand in" in run("evaluate", "--data", data, "--submission", out.with_suffix(".csv")).out


def test_a_submission_to_dnd(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = f"dnd:{save_dnd(tmp_path / 'in')}"
    told = json.loads(run("evaluate", "--data", data, "--budget", "fast", "--submission", out, "--json").out)
    assert (told["pictures"], told["data"]) == (4, "dnd")
    assert sorted(path.name for path in out.iterdir()) == ["0001.mat", "0002.mat"]
    assert oct(out.stat().st_mode)[-3:] in ("755", "775", "700", "750")


def submission(path: Path, *more: object) -> list[object]:
    return [f"sidd-benchmark:{sidd_benchmark(path)}", "--submission", path / "o.csv", *more]


def lost_picture(path: Path) -> list[object]:
    (save_dnd(path) / "images_srgb" / "0002.mat").unlink()
    return [f"dnd:{path}", "--submission", path / "out"]


REFUSED: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "unknown set": (lambda p: [f"sidd-vla:{p}"], "Did you mean sidd-val"),
    "no folder": (lambda p: [f"dnd:{p / 'no'}", "--submission", p / "o"], "there is none at"),
    "empty folder": (lambda p: [f"sidd-val:{p}"], "ValidationNoisyBlocksSrgb"),
    "no scenes": (lambda p: [f"sidd-medium:{p}"], "no folder of SIDD-Medium"),
    "no pairs": (lambda p: [f"pairs:{p}"], "must hold pairs"),
    "no DND": (lambda p: [f"dnd:{p}", "--submission", p / "o"], r"no .*info\.mat"),
    "a lost picture": (lost_picture, r"0002\.mat"),
    "clean pictures without noise": (lambda p: [p], "need --noise"),
    "noise on noise": (lambda p: [f"pairs:{p}", "--noise", "gaussian:25"], "noisy already"),
    "no submission": (lambda p: [f"sidd-benchmark:{p}"], "not public"),
    "submission of a set with references": (lambda p: [f"sidd-val:{p}", "--submission", p / "o.mat"], "goes with"),
    "submission of clean pictures": (lambda p: [p, "--noise", "gaussian:5", "--submission", p / "o"], "goes with"),
    "submission of some": (lambda p: submission(p, "--limit", 3), "all pictures"),
    "submission with rows": (lambda p: submission(p, "--rows", "--json"), "all pictures"),
    "submission with a protocol": (lambda p: submission(p, "--protocol", "rgb-u8-clipped"), "all pictures"),
    "submission of another kind": (lambda p: submission(p, "--submission", p / "o.npz"), r"SubmitSrgb\.csv"),
    "submission into a full folder": (
        lambda p: [f"dnd:{save_dnd(p)}", "--submission", p / "images_srgb"], "not an empty folder"
    ),
    "limit 0": (lambda p: [f"pairs:{polyu(p)}", "--limit", 0], "at least 1"),
}  # fmt: skip


@pytest.mark.parametrize(("case", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(case: Callable[[Path], list[object]], words: str, run: Run, tmp_path: Path) -> None:
    arguments = case(tmp_path)
    before = set(tmp_path.rglob("*"))
    ran = run("evaluate", "--data", *arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert re.fullmatch(f"grainwise: error: .*{words}.*\n", ran.err), ran.err
    assert set(tmp_path.rglob("*")) == before
