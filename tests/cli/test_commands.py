"""Every command on real files."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import grainwise
from grainwise.core.pictures import Picture, read_picture, write_picture
from tests.cli.conftest import Ran, noisy_pixels

Run = Callable[..., Ran]


def test_one_file(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean.png"
    ran = run("denoise", folder / "a.png", "-o", out, "--budget", "fast")
    assert ran.code == 0
    assert "sigma" in ran.out
    before, after = read_picture(folder / "a.png").pixels, read_picture(out).pixels
    assert after.shape == before.shape
    assert after.astype(float).std() < before.astype(float).std() - 3


def test_json_tells_all(run: Run, folder: Path, tmp_path: Path) -> None:
    ran = run("denoise", folder / "a.png", "-o", tmp_path / "o.png", "--json", "--sigma", 20, "--dtype", "float32")
    told = json.loads(ran.out)
    assert told["sigma"] == pytest.approx(20)
    assert told["device"] == "cpu" or told["device"].startswith("cuda")
    assert told["dtype"] == "float32"
    assert {"plan", "macs_per_pixel", "seconds", "megapixels_per_second", "megapixels"} <= set(told)


def test_a_folder_is_mirrored_and_skipped(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("denoise", folder, "-o", out, "--budget", "fast").code == 0
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.*")) == ["a.png", "b.jpg", "sub/c.webp"]
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.*")}
    (out / "a.png").unlink()
    ran = run("denoise", folder, "-o", out, "--budget", "fast", "--skip-existing", "--json")
    skipped = [json.loads(line)["skipped"] for line in ran.out.splitlines()]
    assert sorted(skipped) == [False, True, True]
    assert (out / "b.jpg").stat().st_mtime_ns == stamps[out / "b.jpg"]
    assert (out / "a.png").exists()


def test_a_glob(run: Run, folder: Path, tmp_path: Path) -> None:
    assert run("denoise", f"{folder}/*.*g", "-o", tmp_path / "out", "--budget", "fast").code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.jpg"]


def test_a_bad_file_does_not_stop_the_others(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "aa.png").write_text("this is no picture")
    ran = run("denoise", folder, "-o", tmp_path / "out", "--budget", "fast")
    assert ran.code == 1
    assert ran.err.count("grainwise: error:") == 1
    assert "aa.png" in ran.err
    assert len(list((tmp_path / "out").rglob("*.*"))) == 3


def test_depth_and_alpha_stay(run: Run, tmp_path: Path) -> None:
    pixels = noisy_pixels().astype(np.uint16) * 257 + 13
    alpha = np.random.default_rng(0).integers(0, 65536, pixels.shape[:2], dtype=np.uint16)
    write_picture(tmp_path / "deep.png", pixels, Picture(pixels, alpha=alpha))
    assert run("denoise", tmp_path / "deep.png", "-o", tmp_path / "out.tif", "--budget", "fast").code == 0
    out = read_picture(tmp_path / "out.tif")
    assert out.pixels.dtype == np.uint16
    assert len(np.unique(out.pixels)) > 1000
    assert np.array_equal(out.alpha, alpha)


def test_strength_0_changes_no_pixel(run: Run, folder: Path, tmp_path: Path) -> None:
    assert run("denoise", folder / "a.png", "-o", tmp_path / "same.png", "--strength", 0).code == 0
    assert np.array_equal(read_picture(tmp_path / "same.png").pixels, read_picture(folder / "a.png").pixels)


def test_estimate(run: Run, folder: Path) -> None:
    told = [json.loads(line) for line in run("estimate", folder, "--json").out.splitlines()]
    assert len(told) == 3
    assert told[0]["sigma"] == pytest.approx(25, rel=0.15)
    assert "sigma 2" in run("estimate", folder / "a.png").out


def test_models(run: Run) -> None:
    lines = [json.loads(line) for line in run("models", "--json").out.splitlines()]
    assert {told["name"]: told["task"] for told in lines} == {
        "default": "denoise", "dejpeg": "dejpeg", "upscale": "upscale"
    }  # fmt: skip
    for told in lines:
        assert {plan["name"] for plan in told["plans"]} >= {"fast", "balanced", "best"}
        assert told["licence"]
        assert told["data"]
    words = run("models", "default").out
    assert all(name in words for name in ("fast", "balanced", "best"))


def test_evaluate(run: Run, folder: Path) -> None:
    ran = run("evaluate", "--data", folder, "--noise", "gaussian:10", "--limit", 2, "--json", "--budget", "30k")
    told = json.loads(ran.out)
    needed = {"psnr", "ssim", "macs_per_pixel", "seconds", "megapixels_per_second", "sigma", "plan", "device", "dtype"}
    assert needed <= set(told)
    assert (told["pictures"], told["protocol"]) == (2, "rgb-u8")
    assert "dB" in run("evaluate", "--data", folder, "--noise", "gaussian:10", "--blind", "--limit", 1).out


def test_evaluate_real_pairs(run: Run, tmp_path: Path) -> None:
    clean = noisy_pixels() // 2 + 60
    for name, pixels in (("x_mean", clean), ("x_real", (clean + noisy_pixels(seed=3) // 8).astype(np.uint8))):
        write_picture(tmp_path / f"{name}.png", pixels, Picture(pixels))
    told = json.loads(run("evaluate", "--data", tmp_path, "--noise", "real", "--json").out)
    assert told["blind"] is True
    assert {"psnr", "psnr_before"} <= set(told)


def test_bench(run: Run, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("matplotlib")
    common = ("bench", "--data", folder, "--limit", 1, "--repeats", 1, "--budgets", "fast", "--against", "tv")
    told = json.loads(run(*common, "--json", "--out", tmp_path / "b").out)
    assert [row["name"] for row in told["rows"]] == ["grainwise fast", "tv"]
    assert told["dense_conv_gmacs_per_second"] > 0
    assert {p.name for p in (tmp_path / "b").iterdir()} == {"bench.json", "bench.md", "bench.png"}
    assert "PSNR" in run(*common).out


def test_output_inside_the_input_is_no_input_next_time(run: Run, folder: Path) -> None:
    assert run("denoise", folder, "-o", folder / "out", "--budget", "fast").code == 0
    ran = run("denoise", folder, "-o", folder / "out", "--budget", "fast", "--skip-existing", "--json")
    assert ran.code == 0
    assert [json.loads(line)["skipped"] for line in ran.out.splitlines()] == [True] * 3


def test_a_picture_without_noise_says_so(run: Run, tmp_path: Path) -> None:
    pixels = np.full((40, 40, 3), 90, np.uint8)
    write_picture(tmp_path / "flat.png", pixels, Picture(pixels))
    ran = run("denoise", tmp_path / "flat.png", "-o", tmp_path / "o.png")
    assert ran.code == 0
    assert "no noise found" in ran.out


def test_a_picture_said_to_have_no_noise_is_not_changed(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = np.rint(257 * (90 + 0.3 * rng.standard_normal((64, 64, 3)))).astype(np.uint16)
    write_picture(tmp_path / "quiet.png", pixels, Picture(pixels))
    ran = run("denoise", tmp_path / "quiet.png", "-o", tmp_path / "o.png", "--budget", "fast")
    assert "no noise found" in ran.out
    assert np.array_equal(read_picture(tmp_path / "o.png").pixels, pixels)


def test_a_place_that_cannot_be_written_is_told_before_a_comparison(run: Run, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    ran = run("bench", "--data", folder, "--budgets", "fast", "--out", tmp_path / "file")
    assert ran.code == 2
    assert ran.out == ""


def test_the_help_is_shown_without_a_command(run: Run) -> None:
    assert run().code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_nothing(tmp_path: Path, number: int, code: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), dtype=np.uint8)
    write_picture(tmp_path / "large.tif", pixels, Picture(pixels))
    command = [sys.executable, "-m", "grainwise", "denoise", str(tmp_path / "large.tif"), "-o", str(tmp_path / "o.png")]
    with subprocess.Popen([*command, "--strength", "0"], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".o-*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)  # until the output is being written
        time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["large.tif"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_a_memory_limit_is_kept_over_several_pictures(tmp_path: Path) -> None:
    pixels = noisy_pixels(2400, 3200)
    for index in range(2):
        write_picture(tmp_path / "in" / f"{index}.jpg", pixels, Picture(pixels))
    limit = 640
    code = (
        "import re, sys\nfrom grainwise.cli import main\n"
        f"try: main(['denoise', 'in', '-o', 'out', '--max-memory', '{limit}', '--budget', 'best', '--json'])\n"
        "finally: print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr + run.stdout
    assert [json.loads(line)["tiles"] > 1 for line in run.stdout.splitlines()] == [True, True]
    assert int(run.stderr.split()[-1]) / 1024 < limit


def test_version_and_help(run: Run) -> None:
    assert run("--version").out.strip() == f"grainwise {grainwise.__version__}"
    words = run("--help").out
    assert all(
        name in words for name in ("denoise", "estimate", "models", "evaluate", "bench", "train", "export", "web")
    )


def test_an_interrupt_that_became_another_error_is_still_a_stop(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ImportError("something was stopped on its way")

    monkeypatch.setattr("grainwise.cli.app.app", broken)
    ran = run("models")
    assert ran.code == 130
    assert ran.err == "grainwise: stopped\n"


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are closed otherwise")
@pytest.mark.parametrize(
    ("redirected", "code"), [(">&-", 0), (">&- 2>&-", 0), ("| head -c0; exit ${PIPESTATUS[0]}", 141)]
)
def test_nobody_reads_what_is_printed(redirected: str, code: int) -> None:
    ran = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m grainwise --version {redirected}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == code, ran.stderr
    assert ran.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_what_cannot_be_printed_is_not_blamed_on_a_picture() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "grainwise", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert ran.returncode == 2
    assert "cannot print or write: No space left on device" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_pictures_of_other_kinds_in_a_folder_are_told(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "deeper").mkdir(exist_ok=True)
    for name in ("a.heic", "deeper/b.HEIC", "c.dng", "notes.txt"):
        (folder / name).write_bytes(b"")
    ran = run("denoise", folder, "-o", tmp_path / "o", "--budget", "fast")
    assert ran.code == 0
    assert "left out, for it cannot read them: 1 .dng, 2 .heic" in ran.err
    assert "left out" not in run("denoise", folder / "a.png", "-o", tmp_path / "o.png", "--budget", "fast").err


def test_an_output_that_cannot_be_looked_at_is_one_failure_of_several(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.exists

    def closed(path: Path) -> bool:
        if path.parent.name == "o":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(Path, "exists", closed)
    ran = run("denoise", folder, "-o", tmp_path / "o", "--budget", "fast", "--skip-existing", "--json")
    assert [json.loads(line)["skipped"] for line in ran.out.splitlines()] == [False] * 3


def test_nothing_goes_to_standard_output_or_comes_from_nowhere(run: Run, folder: Path) -> None:
    ran = run("denoise", folder / "a.png", "-o", "-")
    assert ran.code == 2
    assert "not to standard output" in ran.err
    ran = run("evaluate", "--data", "", "--noise", "gaussian:25")
    assert ran.code == 2
    assert "got an empty text" in ran.err


def test_pairs_that_differ_are_refused_as_pairs(run: Run, tmp_path: Path) -> None:
    for ending, side in (("_real", 40), ("_mean", 32)):
        pixels = noisy_pixels(side, 40)
        write_picture(tmp_path / f"a{ending}.png", pixels, Picture(pixels))
    ran = run("evaluate", "--data", f"pairs:{tmp_path}", "--budget", "fast")
    assert ran.code == 2
    assert "a is a pair and its pictures differ: [40, 40, 3] and [32, 40, 3]" in ran.err
