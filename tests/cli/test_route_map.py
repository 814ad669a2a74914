"""``--route-map`` and the routes that ``--json`` tells."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grainwise.core.pictures import Picture, read_picture, write_picture
from grainwise.networks.checkpoint import save_weights
from tests.cli.conftest import Ran, noisy_pixels
from tests.runtime.small import small_weights

Run = Callable[..., Ran]


def covered(line: dict) -> np.ndarray:
    """How often the routes of a line cover each pixel of its picture."""
    count = np.zeros((line["height"], line["width"]), int)
    for route in line["routes"]:
        count[route["y"] : route["y"] + route["height"], route["x"] : route["x"] + route["width"]] += 1
    return count


def test_the_map_of_a_picture(run: Run, folder: Path, tmp_path: Path) -> None:
    ran = run(
        "denoise", folder / "a.png", "-o", tmp_path / "o.png", "--budget", "fast", "--json", "--sigma", 25,
        "--route-map", tmp_path / "maps" / "map.png",
    )  # fmt: skip
    line = json.loads(ran.out)
    assert (covered(line) == 1).all()
    assert {route["plan"] for route in line["routes"]} == {line["plan"]}
    drawn, result = read_picture(tmp_path / "maps" / "map.png").pixels, read_picture(tmp_path / "o.png").pixels
    height, width = result.shape[:2]
    assert drawn.shape[0] > height
    grey = drawn[:height, :width].mean(2)
    assert np.corrcoef(grey.ravel(), result.mean(2).ravel())[0, 1] > 0.99
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["map.png"]


@pytest.mark.parametrize(("command", "more"), [("dejpeg", ("--level", 30)), ("upscale", ("--scale", 2))])
def test_the_other_commands_have_it_too(
    run: Run, folder: Path, tmp_path: Path, command: str, more: tuple[object, ...]
) -> None:
    weights = small_weights(task=command)
    save_weights(tmp_path / "w.safetensors", weights.network, weights.card)
    ran = run(
        command, folder / "a.png", "-o", tmp_path / "o.png", "--model", tmp_path / "w.safetensors", "--json", *more,
        "--route-map", tmp_path / "map.jpg",
    )  # fmt: skip
    line = json.loads(ran.out)
    assert (covered(line) == 1).all()
    assert read_picture(tmp_path / "map.jpg").pixels.shape[0] > line["height"]


def test_a_picture_in_strips_is_mapped_as_if_it_were_whole(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noisy_pixels(700, 500)
    alpha = np.random.default_rng(0).integers(0, 256, (700, 500), np.uint8)
    write_picture(tmp_path / "a.tif", pixels, Picture(pixels, alpha=alpha))
    common = ("denoise", tmp_path / "a.tif", "--budget", "fast", "--json", "--dtype", "float32")
    run(*common, "-o", tmp_path / "whole.tif", "--route-map", tmp_path / "whole.png")
    monkeypatch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
    ran = run(*common, "-o", tmp_path / "o.tif", "--route-map", tmp_path / "strips.png", "--max-memory", 26)
    line = json.loads(ran.out)
    assert line["in_rows"]
    assert len(line["routes"]) == line["tiles"] > 2
    assert (covered(line) == 1).all()
    whole, strips = (read_picture(tmp_path / name).pixels for name in ("whole.png", "strips.png"))
    borders = (strips[:700, :500] == 0).all(2)
    assert borders.any()
    assert np.array_equal(whole[:700, :500][~borders], strips[:700, :500][~borders])


def test_what_was_left_alone_is_mapped_without_tint(run: Run, folder: Path, tmp_path: Path) -> None:
    ran = run(
        "denoise",
        folder / "a.png",
        "-o",
        tmp_path / "o.png",
        "--strength",
        0,
        "--json",
        "--route-map",
        tmp_path / "m.png",
    )
    assert json.loads(ran.out)["routes"] == []
    drawn = read_picture(tmp_path / "m.png").pixels[:40, :56]
    assert (drawn == drawn[..., :1]).all()


def test_maps_that_cannot_be_are_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    one = ("denoise", folder / "a.png", "-o", tmp_path / "o.png", "--route-map")
    cases = [
        (("denoise", folder, "-o", tmp_path / "out", "--route-map", tmp_path / "m.png"), "there are 3"),
        ((*one, tmp_path / "m.png", "--dry-run"), "--dry-run makes none"),
        ((*one, tmp_path / "m.png", "--skip-existing"), "--skip-existing may make none"),
        ((*one, folder / "a.png"), "read or written already"),
        ((*one, tmp_path / "o.png"), "read or written already"),
        ((*one, tmp_path / "m.txt"), "suffix"),
        ((*one, ""), "empty text"),
        ((*one, tmp_path / "folder.png"), "is a folder; name a picture in it"),
    ]
    (tmp_path / "folder.png").mkdir()
    for arguments, words in cases:
        refused = run(*arguments)
        assert refused.code == 2
        assert words in refused.err, refused.err
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize("which", ["map", "result"])
def test_what_cannot_be_written_is_told_before_the_work(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the network ran")

    monkeypatch.setattr("grainwise.runtime.restorer.Restorer._restore", never)
    (tmp_path / "file").write_text("")
    places = {"map": tmp_path / "m.png", "result": tmp_path / "o.png", which: tmp_path / "file" / "x.png"}
    refused = run("denoise", folder / "a.png", "-o", places["result"], "--route-map", places["map"])
    assert refused.code == 2
    assert f"cannot write {places[which]}: " in refused.err
    assert not list(tmp_path.glob("*.png"))
