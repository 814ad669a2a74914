"""What cannot be done as asked ends in one line on stderr and exit code 2, and leaves nothing behind."""

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grainwise.core.pictures import Picture, write_picture
from grainwise.networks.checkpoint import save_weights
from tests.cli.conftest import Ran, noisy_pixels
from tests.runtime.small import small_weights

Run = Callable[..., Ran]
Case = Callable[[Path], list[object]]


def picture(path: Path, name: str = "a.png") -> Path:
    pixels = noisy_pixels()
    write_picture(path / name, pixels, Picture(pixels))
    return path / name


def raw(path: Path, name: str, content: bytes) -> Path:
    (path / name).write_bytes(content)
    return path / name


def cut(path: Path, name: str) -> Path:
    whole = picture(path, name).read_bytes()
    return raw(path, name, whole[: len(whole) // 2])


def flipped(path: Path) -> Path:
    content = bytearray(picture(path).read_bytes())
    content[len(content) // 2] ^= 0xFF
    return raw(path, "a.png", bytes(content))


def huge(path: Path) -> Path:
    """A PNG whose header claims more pixels than any picture has."""
    content = bytearray(picture(path).read_bytes())
    content[16:24] = struct.pack(">II", 2_000_000_000, 2_000_000_000)
    return raw(path, "a.png", bytes(content))


def wide(path: Path) -> Path:
    """A picture of one row, of 3000 pixels."""
    pixels = noisy_pixels(1, 3000)
    write_picture(path / "w.png", pixels, Picture(pixels))
    return path / "w.png"


def one(path: Path, *more: object) -> list[object]:
    return ["denoise", picture(path), "-o", path / "o.png", *more]


def bad(source: Path) -> list[object]:
    return ["denoise", source, "-o", source.parent / "o.png"]


def a_file_as_folder(path: Path) -> list[object]:
    raw(path, "file", b"x")
    return ["denoise", picture(path), "-o", path / "file" / "o.png"]


def two_into_one(path: Path) -> list[object]:
    (path / "x").mkdir()
    (path / "y").mkdir()
    return ["denoise", picture(path / "x"), picture(path / "y"), "-o", path / "out"]


def two_into_a_file(path: Path) -> list[object]:
    return ["denoise", picture(path, "a.png"), picture(path, "b.png"), "-o", picture(path, "c.png")]


def alpha_to_jpeg(path: Path) -> list[object]:
    pixels = noisy_pixels()
    alpha = np.zeros(pixels.shape[:2], np.uint8)
    write_picture(path / "a.png", pixels, Picture(pixels, alpha=alpha))
    return ["denoise", path / "a.png", "-o", path / "o.jpg"]


def unreadable(path: Path) -> list[object]:
    source = picture(path)
    source.chmod(0)
    return bad(source)


def unwritable(path: Path) -> list[object]:
    (path / "locked").mkdir(mode=0o500)
    return ["denoise", picture(path), "-o", path / "locked" / "o.png"]


def level_model(path: Path, task: str) -> Path:
    """Weights of a small network for ``task``."""
    weights = small_weights(task=task, convs="hyper")
    save_weights(path / f"{task}.safetensors", weights.network, weights.card)
    return path / f"{task}.safetensors"


def level(path: Path, command: str, *more: object, task: str = "") -> list[object]:
    """A command with weights for ``task``, which is the command's own unless it is named."""
    return [command, picture(path), "-o", path / "o.png", "--model", level_model(path, task or command), *more]


def train(path: Path, *changes: str) -> list[object]:
    return ["train", "tiny", "--out", path / "run", *(part for change in changes for part in ("--set", change))]


def export(path: Path, *more: object, format: str = "onnx", out: str = "m.onnx") -> list[object]:
    return ["export", "default", "--format", format, "-o", path / out, *more]


def export_below_a_file(path: Path) -> list[object]:
    raw(path, "file", b"x")
    return export(path, out="file/m.onnx")


def export_onto_a_folder(path: Path) -> list[object]:
    (path / "m.onnx").mkdir()
    return export(path)


def export_unwritable(path: Path) -> list[object]:
    (path / "locked").mkdir(mode=0o500)
    return export(path, out="locked/m.onnx")


CASES: dict[str, tuple[Case, str]] = {
    "missing file": (lambda p: ["denoise", p / "no.png", "-o", p / "o.png"], "no file or folder"),
    "empty file": (lambda p: bad(raw(p, "a.png", b"")), "a.png"),
    "text as PNG": (lambda p: bad(raw(p, "a.png", b"hello, I am a text")), "a.png"),
    "truncated PNG": (lambda p: bad(cut(p, "a.png")), "truncated|cut short"),
    "truncated JPEG": (lambda p: bad(cut(p, "a.jpg")), "truncated|cut short"),
    "truncated WebP": (lambda p: bad(cut(p, "a.webp")), "truncated|cut short"),
    "truncated TIFF": (lambda p: bad(cut(p, "a.tif")), "truncated|cut short"),
    "damaged PNG": (lambda p: bad(flipped(p)), "a.png"),
    "PNG of 4 exapixels": (lambda p: bad(huge(p)), "a.png"),
    "unreadable file": (unreadable, "permission"),
    "unwritable folder": (unwritable, "permission"),
    "a file where a folder must be": (a_file_as_folder, "cannot write"),
    "folder without pictures": (lambda p: ["denoise", p, "-o", p / "out"], "holds no picture"),
    "glob without pictures": (lambda p: ["denoise", p / "*.png", "-o", p / "out"], "no picture matches"),
    "unknown suffix": (lambda p: ["denoise", picture(p), "-o", p / "o.xyz"], "suffix"),
    "output over input": (lambda p: ["denoise", picture(p), "-o", p / "a.png"], "read as well as written"),
    "folder over itself": (lambda p: ["denoise", picture(p).parent, "-o", p], "read as well as written"),
    "two into one file": (two_into_one, "both be written"),
    "several into a file": (two_into_a_file, "read as well|names a file"),
    "alpha into JPEG": (alpha_to_jpeg, "alpha"),
    "several into a picture's name": (
        lambda p: ["denoise", picture(p, "a.png"), picture(p, "b.png"), "-o", p / "c.png"], "names a file"
    ),
    "empty input": (lambda p: ["denoise", "", "-o", p / "out"], "empty text"),
    "a named pipe": (lambda p: [os.mkfifo(p / "f.png"), ["denoise", p / "f.png", "-o", p / "o.png"]][1], "neither"),
    "looping link": (lambda p: [(p / "l.png").symlink_to(p / "l.png"), ["denoise", p / "l.png", "-o", p / "o"]][1], "l.png"),
    "name of 300 letters": (lambda p: ["denoise", picture(p), "-o", p / ("x" * 300 + ".png")], "too long"),
    "sigma 76": (lambda p: one(p, "--sigma", "76"), "from 0 to 75"),
    "empty output": (lambda p: ["denoise", picture(p), "-o", ""], "got an empty text; the current folder is a dot"),
    "empty folder of a bench": (lambda p: ["bench", "--data", p, "--out", ""], "got an empty text"),
    "empty folder of a run": (lambda p: ["train", "default", "--out", ""], "got an empty text"),
    "empty cache of a run": (lambda p: ["train", "default", "--out", p / "r", "--cache", ""], "got an empty text"),
    "empty submission": (lambda p: ["evaluate", "--data", p, "--submission", ""], "got an empty text"),
    "empty export": (lambda p: ["export", "default", "--format", "onnx", "-o", ""], "got an empty text"),
    "endless memory": (lambda p: one(p, "--max-memory", "inf"), "--max-memory"),
    "device of another make": (lambda p: one(p, "--device", "hpu"), "auto, cpu and cuda"),
    "rows without json": (lambda p: ["evaluate", "--data", p, "--noise", "gaussian:25", "--rows"], "--json"),
    "limit 0": (lambda p: ["bench", "--data", p, "--limit", "0"], "at least 1"),
    "plot without noise": (lambda p: ["bench", "--data", p, "--noise", "gaussian:0", "-o", p / "b"], "needs noise"),
    "level for plain kernels": (lambda p: one(p, "--level", "20"), "leave --level out"),
    "level 76": (lambda p: level(p, "denoise", "--level", "76"), "from 0 to 75"),
    "JPEG quality 0": (lambda p: level(p, "dejpeg", "--level", "0"), "1 to 100"),
    "JPEG quality nan": (lambda p: level(p, "dejpeg", "--level", "nan"), "1 to 100"),
    "scale 1": (lambda p: level(p, "upscale", "--scale", "1"), "1.5 to 6"),
    "scale 7": (lambda p: level(p, "upscale", "--scale", "7"), "1.5 to 6"),
    "scale nan": (lambda p: level(p, "upscale", "--scale", "nan"), "1.5 to 6"),
    "no scale": (lambda p: level(p, "upscale"), "--scale"),
    "a denoiser for JPEG": (lambda p: level(p, "dejpeg", task="denoise"), "run it by grainwise denoise"),
    "a denoiser that enlarges": (
        lambda p: level(p, "upscale", "--scale", "2", task="denoise"), "run it by grainwise denoise"
    ),
    "an upscaler that denoises": (lambda p: level(p, "denoise", task="upscale"), "run it by grainwise upscale"),
    "an upscaler in a bench": (
        lambda p: ["evaluate", "--data", picture(p).parent, "--noise", "gaussian:5", "--model", level_model(p, "upscale")],
        "run it by grainwise upscale",
    ),
    "an upscaler to export without a scale": (
        lambda p: ["export", level_model(p, "upscale"), "--format", "onnx", "-o", p / "m.onnx"], "a level from 1.5 to 6"
    ),
    "dejpeg with a quality of 0": (lambda p: level(p, "dejpeg", "--quality", "0"), "--quality"),
    "dejpeg of text": (
        lambda p: ["dejpeg", raw(p, "a.png", b"text"), "-o", p / "o.png", "--model", level_model(p, "dejpeg")], "a.png"
    ),
    "upscale beyond a format": (
        lambda p: [
            "upscale", wide(p), "-o", p / "o.webp", "--scale", "6", "--model", level_model(p, "upscale")
        ],
        "holds at most",
    ),
    "estimate of an unknown task": (lambda p: ["estimate", picture(p), "--task", "jpeg"], "Did you mean dejpeg"),
    "estimate by a network": (
        lambda p: ["estimate", picture(p), "--estimator", level_model(p, "dejpeg")], "holds no level estimator"
    ),
    "scale of a stamp": (lambda p: ["estimate", picture(p), "--task", "sr"], "at least 48"),
    "no output": (lambda p: ["denoise", picture(p)], "--out"),
    "no input": (lambda p: ["denoise", "-o", p / "o.png"], "INPUT"),
    "unknown option": (lambda p: one(p, "--fast"), "--fast"),
    "unknown command": (lambda p: ["denoize"], "denoize"),
    "unknown model": (lambda p: one(p, "--model", "defualt"), "Did you mean default"),
    "missing model file": (lambda p: one(p, "--model", p / "m.safetensors"), "no weights file"),
    "damaged model file": (lambda p: one(p, "--model", raw(p, "m.safetensors", b"x" * 99)), "no readable weights"),
    "unknown budget": (lambda p: one(p, "--budget", "medium"), "a budget is"),
    "budget too small": (lambda p: one(p, "--budget", "1k"), "cheapest plan"),
    "negative budget": (lambda p: one(p, "--budget", "-5"), "a budget is"),
    "sigma beyond what was trained": (lambda p: one(p, "--sigma", "200"), "sigma"),
    "negative sigma": (lambda p: one(p, "--sigma", "-1"), "sigma"),
    "sigma no number": (lambda p: one(p, "--sigma", "high"), "sigma"),
    "strength 3": (lambda p: one(p, "--strength", "3"), "strength"),
    "strength nan": (lambda p: one(p, "--strength", "nan"), "strength"),
    "quality 0": (lambda p: one(p, "--quality", "0"), "quality"),
    "too little memory": (lambda p: one(p, "--max-memory", "10"), "MB more"),
    "no time": (lambda p: one(p, "--max-seconds", "0"), "above 0"),
    "endless time": (lambda p: one(p, "--max-seconds", "inf"), "above 0"),
    "time no number": (lambda p: one(p, "--max-seconds", "soon"), "max-seconds"),
    "too little time": (lambda p: one(p, "--max-seconds", "0.00001"), "at least"),
    "too little time, told before": (lambda p: one(p, "--max-seconds", "0.00001", "--dry-run"), "at least"),
    "too little memory, told before": (lambda p: one(p, "--max-memory", "10", "--dry-run"), "MB more"),
    "JPEG larger than memory": (lambda p: [*bad(picture(p, "a.jpg")), "--max-memory", "10"], "held whole"),
    "WebP larger than memory": (
        lambda p: ["denoise", picture(p), "-o", p / "o.webp", "--max-memory", "10"], "encoded whole"
    ),
    "dry run of nothing": (lambda p: ["denoise", p / "no.png", "-o", p / "o.png", "--dry-run"], "no file or folder"),
    "dry run of text": (lambda p: [*bad(raw(p, "a.png", b"text")), "--dry-run"], "a.png"),
    "bench of nothing": (lambda p: ["bench"], "--data"),
    "calibration on pictures": (lambda p: ["bench", "--calibrate", "--data", p], "leave out --data"),
    "calibration of budgets": (
        lambda p: ["bench", "--calibrate", "--budgets", "fast", "--limit", 3, "-o", p / "o"],
        "leave out --out and --limit and --budgets",
    ),
    "unknown device": (lambda p: one(p, "--device", "tpu"), "device"),
    "unknown dtype": (lambda p: one(p, "--dtype", "int8"), "dtype"),
    "estimate of nothing": (lambda p: ["estimate", p / "no.png"], "no file or folder"),
    "estimate of text": (lambda p: ["estimate", raw(p, "a.png", b"text")], "a.png"),
    "evaluate without a folder": (lambda p: ["evaluate", "--data", p / "no", "--noise", "gaussian:25"], "folder"),
    "evaluate unknown noise": (lambda p: ["evaluate", "--data", p, "--noise", "rain:3"], "noise kind"),
    "evaluate unknown protocol": (
        lambda p: ["evaluate", "--data", p, "--noise", "gaussian:25", "--protocol", "rgb-u9"], "protocol"
    ),
    "evaluate real without pairs": (lambda p: ["evaluate", "--data", p, "--noise", "real"], "pairs"),
    "bench unknown rival": (lambda p: ["bench", "--data", p, "--against", "nlmm"], "nlmm"),
    "models unknown": (lambda p: ["models", "best"], "unknown model"),
    "export in an unknown format": (lambda p: export(p, format="onxx"), "Did you mean onnx"),
    "export of an unknown model": (lambda p: ["export", "best", "--format", "onnx", "-o", p / "m.onnx"], "unknown model"),
    "export without a format": (lambda p: ["export", "default", "-o", p / "m.onnx"], "--format"),
    "export with a suffix of another format": (lambda p: export(p, format="openvino"), "ends in .xml"),
    "export onto a folder": (export_onto_a_folder, "is a folder"),
    "export below a file": (export_below_a_file, "no folder"),
    "export into an unwritable folder": (export_unwritable, "permission"),
    "export at an unknown budget": (lambda p: export(p, "--budget", "medium"), "a budget is"),
    "export at too small a budget": (lambda p: export(p, "--budget", "1k"), "cheapest plan"),
    "export of one plan twice": (lambda p: export(p, "--budget", "best,best"), "earlier one buys"),
    "several plans for OpenVINO": (
        lambda p: export(p, "--budget", "fast,best", format="openvino", out="m.xml"), "a budget is"
    ),
    "a level for a file that takes one": (lambda p: export(p, "--sigma", "10"), "dtmodel"),
    "a map for darktable": (lambda p: export(p, "--sigma-map", format="dtmodel", out="m.dtmodel"), "cannot tell"),
    "a level beyond what was trained": (
        lambda p: export(p, "--sigma", "76", format="dtmodel", out="m.dtmodel"), "above 0 and up to"
    ),
    "unknown recipe": (lambda p: ["train", "defualt", "--out", p / "run"], "Did you mean default"),
    "unknown setting": (lambda p: train(p, "loop.step=3"), "Did you mean steps"),
    "setting of another kind": (lambda p: train(p, "loop.steps=many"), "whole number"),
    "no training pictures": (lambda p: train(p, f"data={p / 'nothing'}"), "no folder of pictures"),
    "resume of nothing": (lambda p: [*train(p, f"data={picture(p).parent}"), "--resume"], "."),
}  # fmt: skip


@pytest.mark.parametrize(("case", "words"), CASES.values(), ids=CASES)
def test_refused_in_one_line(
    case: Case, words: str, run: Run, timed_machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "permission" in words and os.geteuid() == 0:
        pytest.skip("root may read and write everything")
    monkeypatch.chdir(tmp_path)
    arguments = case(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    lines = ran.err.strip().splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("grainwise: error: ")
    assert re.search(words, lines[0], re.IGNORECASE), lines[0]
    after = {path for path in tmp_path.rglob("*") if path.is_file() and "run" not in path.parts}
    assert {path for path in after if ".cache" not in path.parts} == before


def test_there_are_at_least_twenty_cases() -> None:
    assert len(CASES) >= 20
