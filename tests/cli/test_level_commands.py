"""dejpeg, upscale, estimate --task, and denoise --level, on real files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import grainwise
from grainwise.core.jpeg import encode_jpeg, through_jpeg
from grainwise.core.picture_metadata import PictureMetadata
from grainwise.core.pictures import Picture, read_picture, write_picture
from grainwise.data.degradations import to_luma
from grainwise.networks.checkpoint import load_weights, save_estimator, save_weights
from grainwise.networks.level_estimator import LevelEstimator
from tests.cli.conftest import Ran
from tests.runtime.small import small_weights
from tests.runtime.test_jpeg_quality import photograph

Run = Callable[..., Ran]


def model(folder: Path, task: str, convs: str | None = None) -> Path:
    """A weights file that runs in milliseconds."""
    weights = small_weights(task=task, convs=convs)
    save_weights(folder / f"{task}.safetensors", weights.network, weights.card)
    return folder / f"{task}.safetensors"


def lines(ran: Ran) -> list[dict]:
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The same picture as JPEG of quality 30, and as PNG afterwards, with alpha."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(encode_jpeg(photograph(), 30))
    pixels = through_jpeg(photograph(), 30)
    alpha = np.linspace(0, 255, pixels.shape[1]).astype(np.uint8)[None].repeat(pixels.shape[0], 0)
    metadata = PictureMetadata(xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", resolution=(5.0, 5.0))
    write_picture(tmp_path / "in" / "b.png", pixels, Picture(pixels, alpha, metadata))
    return tmp_path / "in"


def test_dejpeg_reads_the_quality_from_the_file_or_tells_it_from_the_pixels(run: Run, saved: Path) -> None:
    out, weights = saved.parent / "out", model(saved.parent, "dejpeg")
    told = lines(run("dejpeg", saved, "-o", out, "--model", weights, "--json", "--dtype", "float32"))
    assert [line["quality"] for line in told] == [30, 30]
    assert [line["quality_from"] for line in told] == ["file", "pixels"]
    assert all(line["artifacts_found"] and line["tiles"] == 1 for line in told)
    restorer = grainwise.JpegRestorer(load_weights(weights), dtype="float32", device="cpu")
    after, before = read_picture(out / "b.png"), read_picture(saved / "b.png")
    assert np.array_equal(after.pixels, restorer(before.pixels, quality=30))
    assert np.array_equal(after.alpha, before.alpha)
    assert after.metadata.xmp == before.metadata.xmp
    words = run("dejpeg", saved, "-o", out, "--model", weights).out
    assert "JPEG quality 30 by the file's tables" in words
    assert "JPEG quality 30 by its pixels" in words
    given = lines(run("dejpeg", saved / "a.jpg", "-o", out, "--model", weights, "--level", 12.5, "--json"))
    assert (given[0]["quality"], given[0]["quality_from"]) == (12.5, "given")


def test_a_file_that_was_saved_again_is_seen_through(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(through_jpeg(photograph(), 25), 95))
    common = ("dejpeg", tmp_path / "a.jpg", "-o", tmp_path / "o.png", "--model", model(tmp_path, "dejpeg"))
    (told,) = lines(run(*common, "--json"))
    assert (told["quality"], told["quality_from"], told["quality_of_file"]) == (25, "pixels", 95)
    assert "quality 25 by its pixels (saved again at 95)" in run(*common).out
    (once,) = lines(run(*common, "--level", 90, "--json"))
    assert (once["quality"], once["quality_from"]) == (90, "given")
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(photograph(), 95))
    (fresh,) = lines(run(*common, "--json"))
    assert (fresh["quality"], fresh["quality_from"]) == (95, "file")


def test_dejpeg_leaves_alone_what_shows_no_trace(run: Run, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", photograph(), Picture(photograph()))
    ran = run("dejpeg", tmp_path / "a.png", "-o", tmp_path / "o.png", "--model", model(tmp_path, "dejpeg"))
    assert ran.code == 0
    assert "no trace of JPEG" in ran.out
    assert np.array_equal(read_picture(tmp_path / "o.png").pixels, photograph())


def test_upscale_enlarges_pixels_and_alpha(run: Run, saved: Path) -> None:
    weights, out = model(saved.parent, "upscale"), saved.parent / "o.png"
    ran = run("upscale", saved / "b.png", "-o", out, "--scale", 2.5, "--model", weights, "--json", "--dtype", "float32")
    (told,) = lines(ran)
    assert (told["scale"], told["width"], told["height"]) == (2.5, 660, 500)
    assert told["megapixels"] == pytest.approx(0.33)
    before, after = read_picture(saved / "b.png"), read_picture(out)
    restorer = grainwise.Upscaler(load_weights(weights), dtype="float32", device="cpu")
    assert np.array_equal(after.pixels, restorer(before.pixels, 2.5))
    assert after.alpha is not None
    assert after.alpha.shape == (500, 660)
    assert np.abs(np.diff(after.alpha[250].astype(int))).max() <= 2
    assert after.metadata.xmp == before.metadata.xmp
    assert "x2.5 to 660x500" in run("upscale", saved / "b.png", "-o", out, "--scale", 2.5, "--model", weights).out


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_result_that_its_format_cannot_hold_is_refused_before_the_work(
    run: Run, saved: Path, dry: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = model(saved.parent, "upscale")
    monkeypatch.setattr("grainwise.runtime.upscaler.Upscaler.restore", lambda *_, **__: pytest.fail("worked"))
    common = ("upscale", "--scale", 6, "--model", weights, *dry)
    ran = run(*common, saved / "b.png", "-o", saved.parent / "o.jpg")
    assert ran.code == 2
    assert "JPEG holds no alpha" in ran.err
    long = np.zeros((8, 3000, 3), np.uint8)
    write_picture(saved.parent / "long.png", long, Picture(long))
    ran = run(*common, saved.parent / "long.png", "-o", saved.parent / "o.webp")
    assert ran.code == 2
    assert "18000 x 48 pixels, but webp holds at most" in ran.err


@pytest.mark.parametrize("command", [("dejpeg", "--level", 20), ("dejpeg",), ("upscale", "--scale", 1.7)])
def test_rows_give_the_same_file(
    run: Run, tmp_path: Path, command: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = through_jpeg(photograph(600, 300), 20).astype(np.uint16) * 257
    alpha = np.full(pixels.shape[:2], 9000, np.uint16)
    write_picture(tmp_path / "a.tif", pixels, Picture(pixels, alpha))
    weights = model(tmp_path, str(command[0]))
    common = (command[0], tmp_path / "a.tif", *command[1:], "--model", weights, "--json")
    (whole,) = lines(run(*common, "-o", tmp_path / "whole.tif"))
    monkeypatch.setattr("grainwise.cli.one_file.FileRestorer._must_go_in_rows", lambda *_: True)
    (strips,) = lines(run(*common, "-o", tmp_path / "rows.tif"))
    assert (whole["in_rows"], strips["in_rows"]) == (False, True)
    one, other = (read_picture(tmp_path / name) for name in ("whole.tif", "rows.tif"))
    assert np.array_equal(one.pixels, other.pixels)
    assert np.array_equal(one.alpha, other.alpha)
    assert one.pixels.dtype == np.uint16


@pytest.mark.parametrize("command", [("dejpeg",), ("upscale", "--scale", 3)])
def test_folders_are_mirrored_skipped_and_foretold(run: Run, saved: Path, command: tuple[object, ...]) -> None:
    common = (*command, saved, "-o", saved.parent / "out", "--model", model(saved.parent, str(command[0])), "--json")
    told = lines(run(*common, "--dry-run"))
    assert all(line["dry_run"] and line["tiles"] == 1 and line["memory_predicted_mb"] > 50 for line in told)
    assert not (saved.parent / "out").exists()
    assert [line["skipped"] for line in lines(run(*common))] == [False, False]
    assert [line["skipped"] for line in lines(run(*common, "--skip-existing"))] == [True, True]


def test_estimates_of_every_task(run: Run, saved: Path) -> None:
    by_file, by_pixels = lines(run("estimate", saved, "--task", "dejpeg", "--json"))
    assert (by_file["quality"], by_file["quality_of_file"], by_file["standard_tables"]) == (30, 30, True)
    assert (by_pixels["quality"], by_pixels["quality_of_file"], by_pixels["found"]) == (30, None, True)
    assert "JPEG quality 30" in run("estimate", saved / "a.jpg", "--task", "dejpeg").out
    large = grainwise.Upscaler(small_weights(task="upscale"), device="cpu")
    assert large.task == "upscale"
    (scale,) = lines(run("estimate", saved / "b.png", "--task", "sr", "--json"))
    assert set(scale) == {"input", "scale", "found", "seconds"}
    (noise,) = lines(run("estimate", saved / "b.png", "--json"))
    assert noise["sigma"] >= 0


@pytest.mark.parametrize(("task", "key"), [("denoise", "sigma"), ("dejpeg", "quality"), ("sr", "scale")])
def test_a_trained_estimator_can_be_asked(run: Run, saved: Path, task: str, key: str) -> None:
    name = {"sr": "upscale"}.get(task, task)
    path = saved.parent / "e.safetensors"
    save_estimator(path, LevelEstimator(task=name, width=4), small_weights().card)
    (told,) = lines(run("estimate", saved / "b.png", "--task", task, "--estimator", path, "--json"))
    assert isinstance(told[key], float)
    assert len(told["regions"]) == 2
    assert run("estimate", saved / "b.png", "--task", task, "--estimator", path).code == 0
    other = "sr" if task != "sr" else "denoise"
    ran = run("estimate", saved / "b.png", "--task", other, "--estimator", path)
    assert ran.code == 2
    assert "ask for it with --task" in ran.err


def test_an_estimator_of_one_channel_sees_luma(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    estimator = LevelEstimator(task="dejpeg", channels=1, width=4)
    estimator.tail[-1].weight.data.mul_(0.01)
    estimator.tail[-1].bias.data.fill_(0.5)
    save_estimator(tmp_path / "e.safetensors", estimator, small_weights().card)
    colours = photograph(130, 140)
    colours[..., 1] = colours[::-1, :, 0]
    seen = {}
    for name, pixels in {
        "rgb": colours, "deep": colours.astype(np.uint16) * 257, "luma": to_luma(colours), "red": colours[..., :1]
    }.items():  # fmt: skip
        path = tmp_path / f"{name}.png"
        write_picture(path, pixels, Picture(pixels))
        (line,) = lines(run("estimate", path, "--task", "dejpeg", "--estimator", tmp_path / "e.safetensors", "--json"))
        seen[name] = line["quality"]
    assert seen["rgb"] == seen["deep"] == seen["luma"] != seen["red"]


def test_denoise_takes_the_level_of_the_kernels_by_hand(run: Run, saved: Path) -> None:
    weights = model(saved.parent, "denoise", "hyper")
    common = (
        "denoise",
        saved / "b.png",
        "-o",
        saved.parent / "o.png",
        "--model",
        weights,
        "--json",
        "--dtype",
        "float32",
    )
    seen = {}
    for name, options in {
        "sigma": ("--sigma", 20),
        "level": ("--level", 20),
        "both": ("--sigma", 20, "--level", 20),
        "other": ("--sigma", 20, "--level", 60),
    }.items():
        (told,) = lines(run(*common, *options))
        assert told["sigma"] == pytest.approx(20, abs=1e-4)
        seen[name] = read_picture(saved.parent / "o.png").pixels
    assert np.array_equal(seen["sigma"], seen["level"])
    assert np.array_equal(seen["sigma"], seen["both"])
    assert not np.array_equal(seen["sigma"], seen["other"])


def test_models_say_what_they_restore(run: Run, tmp_path: Path) -> None:
    path = model(tmp_path, "upscale")
    assert "half_unet for upscale" in run("models", path).out
    assert json.loads(run("models", path, "--json").out)["task"] == "upscale"
    assert "half_unet for denoise" in run("models", "default").out
