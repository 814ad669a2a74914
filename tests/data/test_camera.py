"""The camera's model: what must hold for any picture, and that its noise is like that of the real pair."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.core.errors import InputError
from grainwise.data.camera import GAMMA, Camera, Shot, photograph, process, unprocess
from grainwise.data.demosaic import bayer_mosaic, demosaic
from grainwise.data.mat import read_rgb8
from grainwise.evaluation.noise_statistics import noise_statistics

REAL = Path(os.environ.get("GRAINWISE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "real"
PHASES = [(0, 0), (0, 1), (1, 0), (1, 1)]
PLAIN = Shot(to_camera=np.eye(3), gains=np.ones(3), shot=0.01, read=1e-4)
QUIET = {"shot": 1e-14, "read": 1e-16}


def flat(*colour: float, size: int = 24) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.float32), (size, size, 3)).copy()


def texture(size: int = 64) -> np.ndarray:
    """Smooth colours in [0.2, 0.8]."""
    y, x = np.mgrid[:size, :size] / size
    return np.stack([0.5 + 0.3 * np.sin(6 * x + k) * np.cos(5 * y - k) for k in range(3)], 2).astype(np.float32)


class TestDemosaic:
    @pytest.mark.parametrize("phase", PHASES)
    @pytest.mark.parametrize("kind", ["bilinear", "malvar"])
    def test_ramps_come_back(self, kind: str, phase: tuple[int, int]) -> None:
        y, x = np.mgrid[:12, :15].astype(np.float32)
        grey = 0.2 + 0.02 * x + 0.03 * y
        picture = np.stack([grey + 0.1, grey, grey - 0.1])
        out = demosaic(bayer_mosaic(picture, phase)[None], phase, kind)[0]
        assert out.shape == picture.shape
        assert np.abs(out - picture)[:, 2:-2, 2:-2].max() < 1e-6

    @pytest.mark.parametrize("kind", ["bilinear", "malvar"])
    def test_a_pixels_own_colour_is_kept_and_pictures_do_not_mix(self, kind: str) -> None:
        pictures = np.random.default_rng(0).random((2, 3, 9, 10), np.float32)
        mosaics = np.stack([bayer_mosaic(p, (1, 0)) for p in pictures])
        both = demosaic(mosaics, (1, 0), kind)
        assert np.array_equal(np.stack([bayer_mosaic(p, (1, 0)) for p in both]), mosaics)
        assert np.array_equal(both[1], demosaic(mosaics[1:], (1, 0), kind)[0])

    def test_the_four_patterns_are_one_shifted(self) -> None:
        mosaic = np.random.default_rng(0).random((1, 12, 12), np.float32)
        whole = demosaic(mosaic, (0, 0), "malvar")
        for down, right in PHASES:
            part = demosaic(mosaic[:, down:, right:], (down, right), "malvar")
            assert np.array_equal(whole[:, :, down:, right:][..., 2:-2, 2:-2], part[..., 2:-2, 2:-2])

    def test_the_filters_are_those_of_the_paper(self) -> None:
        green = [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]
        across = [[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]]
        opposite = [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]
        mosaic = np.random.default_rng(0).random((1, 10, 10), np.float32)
        out = demosaic(mosaic, (0, 0), "malvar")[0]

        def filtered(kernel: list[list[float]], row: int, column: int) -> float:
            return float((np.array(kernel) / 8 * mosaic[0, row - 2 : row + 3, column - 2 : column + 3]).sum())

        assert out[1, 4, 4] == pytest.approx(filtered(green, 4, 4), abs=1e-6)
        assert out[0, 4, 5] == pytest.approx(filtered(across, 4, 5), abs=1e-6)
        assert out[0, 5, 4] == pytest.approx(filtered(np.transpose(across).tolist(), 5, 4), abs=1e-6)
        assert out[2, 4, 5] == pytest.approx(filtered(np.transpose(across).tolist(), 4, 5), abs=1e-6)
        assert out[0, 5, 5] == pytest.approx(filtered(opposite, 5, 5), abs=1e-6)
        assert out[2, 4, 4] == pytest.approx(filtered(opposite, 4, 4), abs=1e-6)


class TestProcessing:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000), st.tuples(*[st.floats(0.2, 0.75)] * 3), st.booleans())
    def test_plain_colours_come_back(self, seed: int, colour: tuple[float, float, float], bilinear: bool) -> None:
        shot = Camera(bilinear=float(bilinear), developed=0).draw(np.random.default_rng(seed))
        picture = flat(*colour)
        raw = unprocess(picture.transpose(2, 0, 1), shot)
        if raw.min() <= 0 or (raw * shot.gains[:, None, None]).max() >= 1:
            return  # a colour outside of what the camera can see
        clean, _ = photograph(picture, replace(shot, **QUIET), np.random.default_rng(0))
        assert np.abs(clean - picture).max() < 2e-4

    def test_white_stays_white_and_black_black(self) -> None:
        for seed in range(20):
            shot = Camera().draw(np.random.default_rng(seed))
            assert photograph(flat(1, 1, 1), shot, np.random.default_rng(0))[0].min() > 0.995
            assert photograph(flat(0, 0, 0), shot, np.random.default_rng(0))[0].max() < 1e-3

    def test_any_size_stays(self) -> None:
        camera = Camera(developed=1)
        for height, width in ((3, 3), (5, 16), (33, 7)):
            picture = np.random.default_rng(0).random((height, width, 3), np.float32)
            for part in photograph(picture, camera.draw(np.random.default_rng(1)), np.random.default_rng(2)):
                assert part.shape == picture.shape
                assert part.dtype == np.float32
                assert 0 <= part.min() <= part.max() <= 1


class TestNoise:
    @pytest.mark.parametrize("signal", [0.05, 0.3, 0.7])
    def test_its_variance_is_shot_times_signal_plus_read(self, signal: float) -> None:
        shot = replace(PLAIN, shot=2e-4, read=1e-5, demosaicing="bilinear")
        raw = np.full((200, 200), signal, np.float32)
        raw += np.random.default_rng(0).standard_normal(raw.shape, np.float32) * np.sqrt(2e-4 * signal + 1e-5)
        expected = process(raw[None], shot)[0]
        _, noisy = photograph(flat(*[signal ** (1 / GAMMA)] * 3, size=200), shot, np.random.default_rng(0))
        assert np.abs(noisy.transpose(2, 0, 1) - expected).max() < 0.51 / 255 + 1e-4
        linear = noisy[::2, 1::2, 1] ** GAMMA
        assert linear.var() == pytest.approx(2e-4 * signal + 1e-5, rel=0.06)

    def test_same_seed_same_picture(self) -> None:
        def take(seed: int) -> np.ndarray:
            generator = np.random.default_rng(seed)
            return photograph(texture(), Camera(developed=1).draw(generator), generator)[1]

        assert np.array_equal(take(3), take(3))
        assert not np.array_equal(take(3), take(4))

    def test_the_noisy_picture_is_what_a_file_would_hold(self) -> None:
        for quality in (None, 80):
            _, noisy = photograph(texture(), replace(PLAIN, quality=quality), np.random.default_rng(0))
            assert np.allclose(noisy * 255, np.rint(noisy * 255), atol=1e-4)

    def test_the_cameras_own_denoiser(self) -> None:
        def measured(**changes: object) -> tuple[float, float, float]:
            clean, noisy = photograph(texture(128), replace(PLAIN, **changes), np.random.default_rng(0))
            told = noise_statistics(noisy, clean)
            return float(told.std.mean()), float(told.lags[:, 1].mean()), float(told.channels.mean())

        raw = measured()
        smooth, grey, blotchy = (
            measured(smoothing=(0.8, 0.8)),
            measured(colour=0.3),
            measured(smoothing=(0.8, 0.8), fine=0.3),
        )
        assert smooth[0] < 0.7 * raw[0]
        assert smooth[1] > raw[1] + 0.15
        assert grey[2] > raw[2] + 0.2
        assert blotchy[0] < smooth[0]
        assert blotchy[1] > smooth[1] + 0.1

    def test_a_higher_iso_is_noisier(self) -> None:
        levels = []
        for shot in (1e-4, 1e-3, 1e-2):
            clean, noisy = photograph(texture(), replace(PLAIN, shot=shot, read=shot / 100), np.random.default_rng(0))
            levels.append(float((noisy - clean).std()))
        assert levels[0] < 0.5 * levels[1] < 0.25 * levels[2]


class TestDraw:
    def test_cameras_lie_in_their_ranges(self) -> None:
        camera = Camera()
        shots = [camera.draw(np.random.default_rng(seed)) for seed in range(300)]
        for shot in shots:
            assert np.allclose(shot.to_camera.sum(1), 1)
            assert 1e-4 <= shot.shot <= 2.2e-2
            assert 1.9 <= shot.gains[0] / shot.gains[1] <= 2.4
            assert 1.5 <= shot.gains[2] / shot.gains[1] <= 1.9
            assert 1 / 1.1 <= shot.gains[1] <= 2
            assert (shot.quality is None) == (shot.smoothing == (0.0, 0.0)) == (shot.colour == 1)
        for share in (np.mean([s.tone for s in shots]), np.mean([s.quality is not None for s in shots])):
            assert 0.4 < share < 0.6
        assert {shot.phase for shot in shots} == set(PHASES)
        reads = np.log10([s.read for s in shots]) - 1.85 * np.log10([s.shot for s in shots])
        assert (reads.mean(), reads.std()) == pytest.approx((0.30, 0.20), abs=0.04)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"shot": (0.02, 0.01)}, "low to high"), ({"shot": (0.0, 0.01)}, "positive"), ({"red": (0.0, 1.0)}, "red"),
            ({"quality": (0, 50)}, "quality"), ({"tone": 1.5}, "share"), ({"developed": -0.1}, "share"),
            ({"exposure": (0.8, -1.0)}, "deviations"), ({"colour": (0.5, 1.5)}, "colour"), ({"fine": (-0.5, 1)}, "fine"),
            ({"desaturation": (0.0, 1.1)}, "desaturation"),
        ],
    )  # fmt: skip
    def test_wrong_ranges_are_refused(self, wrong: dict[str, object], words: str) -> None:
        with pytest.raises(InputError, match=words):
            Camera(**wrong)

    def test_wrong_pictures_are_refused(self) -> None:
        for shape in ((8, 8), (8, 8, 1), (2, 8, 3)):
            with pytest.raises(InputError, match="at least 3x3"):
                photograph(np.zeros(shape, np.float32), PLAIN, np.random.default_rng(0))
        with pytest.raises(InputError, match="demosaicing"):
            photograph(texture(), replace(PLAIN, demosaicing="ahd"), np.random.default_rng(0))


@pytest.mark.skipif(not (REAL / "sidd-pair").is_dir(), reason="the SIDD pair is not at hand")
def test_its_noise_is_like_that_of_the_pair_of_sidd() -> None:
    pytest.importorskip("scipy.io")
    noisy, clean = (read_rgb8(REAL / "sidd-pair" / f"{a}.mat", b) for a, b in (("noisy", "im_noisy"), ("gt", "im_gt")))
    picture = clean.astype(np.float32) / 255
    real = noise_statistics(noisy.astype(np.float32) / 255, picture)
    draws = [Camera(shot=(0.015, 0.022), tone=0, developed=0).draw(np.random.default_rng(k)) for k in range(8)]
    ours = [noise_statistics(*photograph(picture, s, np.random.default_rng(0))[::-1]) for s in draws]

    def average(name: str) -> np.ndarray:
        return np.mean([getattr(statistics, name) for statistics in ours], 0)

    assert average("std") == pytest.approx(real.std, rel=0.25)
    assert average("lags") == pytest.approx(real.lags, abs=0.08)
    assert average("channels") == pytest.approx(real.channels, abs=0.25)
    seen = ~np.isnan(real.curve)
    assert average("curve")[seen] == pytest.approx(real.curve[seen], rel=0.35)
