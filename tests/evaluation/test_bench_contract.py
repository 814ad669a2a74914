import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from grainwise.core.errors import InputError
from grainwise.evaluation import environment as machine
from grainwise.evaluation.bench import Contender, bench, dense_conv_rate
from grainwise.evaluation.environment import environment, peak_extra_memory
from grainwise.evaluation.measure import evaluate
from grainwise.evaluation.protocol import Noise, get_protocol

NOISE = Noise(sigma=25 / 255)


def nothing(noisy, sigma):
    return noisy


def slow(noisy, sigma):
    time.sleep(0.01)
    return 0.5 * noisy + 0.25


class Spy:
    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def __call__(self, noisy, sigma):
        self.calls.append((self.name, noisy.shape[0]))
        noisy += 1  # a restorer that spoils its input spoils it for itself alone
        return noisy - 1


def contenders(**restorers):
    return [Contender(name=name, restore=restore) for name, restore in restorers.items()]


class TestBench:
    def test_quality_is_that_of_evaluate(self, scene):
        pictures = [("a", scene), ("b", scene[:50])]
        result = bench(contenders(nothing=nothing, slow=slow), pictures, NOISE, repeats=1, with_ssim=False)
        for row, restore in zip(result.rows, (nothing, slow), strict=True):
            assert row.psnr == evaluate(restore, pictures, NOISE, with_ssim=False).psnr
            assert row.ssim is None

    def test_time_is_per_megapixel(self, scene):
        result = bench(contenders(nothing=nothing, slow=slow), [("a", scene)], NOISE, repeats=3, with_ssim=False)
        quick, lazy = result.rows
        assert lazy.seconds_per_megapixel >= 0.01 / (96 * 112 / 1e6)
        assert quick.seconds_per_megapixel < lazy.seconds_per_megapixel
        assert lazy.seconds_per_megapixel_spread >= 0

    def test_all_are_warmed_up_and_then_take_turns(self, scene):
        calls = []
        spies = contenders(x=Spy("x", calls), y=Spy("y", calls))
        pictures = [("a", scene[:40]), ("b", scene)]
        bench(spies, pictures, NOISE, repeats=2, with_ssim=False, with_memory=False)
        warm, timed = calls[:2], calls[2:]
        assert warm == [("x", 40), ("y", 40)]
        assert timed == [(name, rows) for rows in (40, 96) for name in "xyyx"]

    def test_each_timed_call_waits_for_the_threads_of_others(self, scene):
        start = time.perf_counter()
        result = bench(
            contenders(x=nothing, y=nothing),
            [("a", scene)],
            NOISE,
            repeats=2,
            settle=0.1,
            with_ssim=False,
            with_memory=False,
        )
        assert time.perf_counter() - start >= 2 * 2 * 0.1
        assert max(row.seconds_per_megapixel for row in result.rows) < 0.1 / result.megapixels

    def test_one_that_writes_into_its_input_disturbs_no_other(self, scene):
        alone = bench(contenders(n=nothing), [("a", scene)], NOISE, repeats=2, with_ssim=False)
        both = bench(contenders(s=Spy("s", []), n=nothing), [("a", scene)], NOISE, repeats=2, with_ssim=False)
        assert both.rows[1].psnr == alone.rows[0].psnr

    def test_json_is_strict_and_complete(self, scene):
        pytest.importorskip("torchmetrics")
        entry = Contender(
            name="clean", restore=lambda noisy, sigma: np.zeros_like(noisy), macs_per_pixel=5e4, dtype="bf16"
        )
        zeros = np.zeros((16, 16, 3), dtype=np.uint8)
        result = bench([entry], [("a", zeros)], NOISE, get_protocol("rgb-u8-clipped"), data="zeros", commit="abc")
        written = json.loads(json.dumps(result.to_json(), allow_nan=False))
        assert set(written) == {
            *("noise", "sigma", "protocol", "data", "pictures", "megapixels", "repeats", "environment", "rows"),
        }
        assert (written["protocol"], written["data"], written["repeats"]) == ("rgb-u8-clipped", "zeros", 3)
        row = written["rows"][0]
        assert row["psnr"] is None
        assert row["ssim"] == pytest.approx(1)
        assert (row["macs_per_pixel"], row["dtype"], row["device"]) == (5e4, "bf16", "cpu")
        assert written["environment"]["commit"] == "abc"

    @pytest.mark.parametrize(
        ("entries", "pictures", "repeats", "message"),
        [
            ([], 1, 1, "got 0 and 1 of them"),
            ([("n", nothing)], 0, 1, "got 1 and 0 of them"),
            ([("n", nothing), ("n", nothing)], 1, 1, "got n twice"),
            ([("n", nothing)], 1, 0, "repeats=0"),
            ([("cut", lambda noisy, sigma: noisy[1:])], 1, 1, "'p0, restored by cut'"),
        ],
    )
    def test_refusals(self, scene, entries, pictures, repeats, message):
        run = [Contender(name=name, restore=restore) for name, restore in entries]
        with pytest.raises(InputError, match=message):
            bench(run, [(f"p{i}", scene) for i in range(pictures)], NOISE, repeats=repeats, with_ssim=False)

    def test_a_picture_too_small_for_ssim_is_named(self, scene):
        with pytest.raises(InputError, match=r"'tiny'.*11x11"):
            bench(contenders(n=nothing), [("tiny", scene[:5])], NOISE, repeats=1)


class TestMemory:
    @pytest.fixture(autouse=True)
    def _needs_proc(self):
        if not os.access("/proc/self/clear_refs", os.W_OK):
            pytest.skip("this system does not tell the peak of resident memory")

    def test_the_peak_is_what_a_call_touches(self):
        size = 64 << 20
        for _ in range(2):  # what the allocator kept from the first call must not hide the second
            peak = peak_extra_memory(lambda: np.ones(size, dtype=np.uint8).sum())
            assert peak == pytest.approx(size, rel=0.1)
        assert peak_extra_memory(lambda: None) < size / 16

    def test_the_largest_picture_counts(self, scene):
        def hungry(noisy, sigma):
            return noisy + 0 * np.ones((len(noisy) << 12, 64), dtype=np.float32).max()

        result = bench(contenders(h=hungry), [("a", scene[:24]), ("b", scene)], NOISE, repeats=1, with_ssim=False)
        assert result.rows[0].peak_extra_bytes == pytest.approx((96 << 12) * 64 * 4, rel=0.1)


def test_memory_is_none_where_the_system_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_SELF", tmp_path / "missing")
    assert peak_extra_memory(lambda: pytest.fail("must not run")) is None


class TestEnvironment:
    def test_says_where(self):
        here = environment(commit="abc").to_json()
        assert here["torch"] == torch.__version__
        assert here["numpy"] == np.__version__
        assert here["threads"] == torch.get_num_threads()
        assert here["cpu"]
        assert here["date"].endswith("+00:00")
        assert here["commit"] == "abc"

    def test_the_allocator_is_recorded(self, monkeypatch):
        for name in [name for name in os.environ if name.startswith(("MALLOC_", "LD_PRELOAD", "THP_", "GLIBC_"))]:
            monkeypatch.delenv(name)
        assert environment().allocator == "default"
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "8")
        assert environment().allocator == "MALLOC_TRIM_THRESHOLD_=8"
        assert environment(allocator="mallopt").allocator == "mallopt"

    def test_a_processor_without_a_name(self, monkeypatch):
        def unreadable(*args, **kwargs):
            raise OSError

        monkeypatch.setattr(Path, "read_text", unreadable)
        assert environment().cpu


class TestDenseConvRate:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_gives_a_rate(self, dtype):
        rate = dense_conv_rate(dtype, channels=16, size=64, repeats=2)
        assert math.isfinite(rate)
        assert rate > 0.01

    def test_refusals(self):
        with pytest.raises(InputError, match="1 or more"):
            dense_conv_rate(torch.float32, channels=0)
        with pytest.raises(InputError, match="floating"):
            dense_conv_rate(torch.int8)
