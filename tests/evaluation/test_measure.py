import json
import math

import numpy as np
import pytest

from grainwise.core.errors import InputError
from grainwise.evaluation.measure import evaluate, evaluate_pairs, unit_picture
from grainwise.evaluation.metrics import psnr
from grainwise.evaluation.protocol import RGB_U8, RGB_U8_CLIPPED, Noise, gaussian_noisy, get_protocol, round_to_8_bits

NOISE = Noise(sigma=25 / 255)


def nothing(noisy, sigma):
    return noisy


class TestEvaluate:
    def test_noise_left_alone_has_the_psnr_of_the_noise(self, scene):
        result = evaluate(nothing, [("scene", scene)], NOISE, RGB_U8, with_ssim=False)
        by_hand = psnr(round_to_8_bits(gaussian_noisy(scene, 25 / 255, seed=0)), scene)
        assert result.psnr == by_hand
        assert result.psnr == pytest.approx(20 * math.log10(255 / 25), abs=0.2)

    def test_clean_pictures_come_out_infinite_and_are_null_in_json(self, scene):
        clean = round_to_8_bits(scene)
        result = evaluate(lambda noisy, sigma: clean, [("scene", clean)], NOISE, with_ssim=False)
        assert result.psnr == math.inf
        assert json.loads(json.dumps(result.to_json(rows=True), allow_nan=False))["psnr"] is None

    def test_the_mean_is_over_pictures(self, scene):
        pictures = [("a", scene), ("b", scene[:40] ** 3), ("c", scene[..., :1])]
        result = evaluate(nothing, iter(pictures), NOISE, with_ssim=False)
        single = [evaluate(nothing, [picture], NOISE, with_ssim=False).psnr for picture in pictures]
        assert [score.name for score in result.scores] == ["a", "b", "c"]
        assert [score.psnr for score in result.scores] == single
        assert result.psnr == pytest.approx(sum(single) / 3)
        assert result.megapixels == pytest.approx((96 + 40 + 96) * 112 / 1e6)

    def test_same_seed_same_numbers(self, scene):
        first, again = (evaluate(nothing, [("a", scene)], NOISE, with_ssim=False).psnr for _ in range(2))
        assert first == again

    def test_protocols_differ(self, scene):
        pictures = [("a", scene)]
        plain, luma = (
            evaluate(nothing, pictures, NOISE, get_protocol(name), with_ssim=False).psnr
            for name in ("rgb-u8", "y-bt601:4")
        )
        assert luma > plain + 2
        seen = []
        evaluate(lambda noisy, sigma: (seen.append(noisy), noisy)[1], pictures, NOISE, RGB_U8_CLIPPED, with_ssim=False)
        assert np.array_equal(seen[0], round_to_8_bits(seen[0]))

    def test_the_restorer_is_told_sigma_in_image_units(self, scene):
        told = []
        evaluate(lambda noisy, sigma: (told.append(sigma), noisy)[1], [("a", scene)], NOISE, with_ssim=False)
        assert told == [25 / 255]

    def test_json_keys(self, scene):
        pytest.importorskip("torchmetrics")
        result = evaluate(nothing, [("a", scene)], NOISE, data="made-up").to_json(rows=True)
        assert set(result) == {
            *("psnr", "ssim", "seconds", "megapixels", "megapixels_per_second", "sigma", "noise", "protocol", "data"),
            *("pictures", "rows"),
        }
        assert (result["sigma"], result["noise"], result["protocol"]) == (pytest.approx(25), "gaussian:25", "rgb-u8")
        assert (result["pictures"], result["data"]) == (1, "made-up")
        assert 0 < result["ssim"] < 1
        assert set(result["rows"][0]) == {"name", "psnr", "ssim", "seconds", "megapixels"}

    def test_without_ssim_it_is_null(self, scene):
        assert evaluate(nothing, [("a", scene)], NOISE, with_ssim=False).to_json()["ssim"] is None

    def test_half_and_double_precision_are_taken(self, scene):
        for dtype in (np.float16, np.float64):
            evaluate(lambda noisy, sigma, dtype=dtype: noisy.astype(dtype), [("a", scene)], NOISE, with_ssim=False)


class TestRefusals:
    @pytest.mark.parametrize(
        ("restorer", "message"),
        [
            (lambda noisy, sigma: noisy[1:], r"shape \(95, 112, 3\) for picture 'a.png', and \(96, 112, 3\)"),
            (lambda noisy, sigma: noisy.transpose(2, 0, 1), "'a.png'.*HWC"),
            (lambda noisy, sigma: (noisy * 255).astype(np.uint8), "floats in .*got uint8 for picture 'a.png'"),
            (lambda noisy, sigma: None, "got NoneType for picture 'a.png'"),
            (lambda noisy, sigma: np.where(noisy > 0.5, np.nan, noisy), "not finite for picture 'a.png'"),
            (lambda noisy, sigma: noisy / np.float32(0), "not finite for picture 'a.png'"),
        ],
    )
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_a_restorer_returns_a_whole_finite_float_picture(self, scene, restorer, message):
        with pytest.raises(InputError, match=message):
            evaluate(restorer, [("a.png", scene)], NOISE, with_ssim=False)

    def test_an_empty_set(self):
        with pytest.raises(InputError, match="no picture"):
            evaluate(nothing, [], NOISE)

    def test_a_picture_too_small_for_ssim_is_named(self, scene):
        with pytest.raises(InputError, match=r"'tiny'.*11x11"):
            evaluate(nothing, [("tiny", scene[:8])], NOISE)

    @pytest.mark.parametrize(
        ("picture", "message"),
        [
            (np.zeros((4, 4, 4), dtype=np.uint8), "alpha"),
            (np.zeros((3, 4, 5), dtype=np.uint8), "channels last"),
            (np.zeros((0, 4, 3), dtype=np.uint8), "shape"),
            (np.zeros(4, dtype=np.uint8), "shape"),
            (np.zeros((4, 4), dtype=np.int64), "int64"),
            (np.full((4, 4), 200.0), "from 200 to 200"),
            (np.full((4, 4), -0.5), "lie in"),
            (np.full((4, 4), np.nan), "finite"),
        ],
    )
    def test_a_picture_that_cannot_be_used_is_named(self, picture, message):
        with pytest.raises(InputError, match=f"'x'.*{message}"):
            unit_picture(picture, "x")


class TestUnitPicture:
    def test_depths(self):
        for dtype in (np.uint8, np.uint16):
            top = np.full((2, 2, 3), np.iinfo(dtype).max, dtype=dtype)
            assert np.array_equal(unit_picture(top, "x"), np.ones((2, 2, 3), dtype=np.float32))
        assert unit_picture(np.full((2, 2), 0.25), "x").dtype == np.float32

    def test_grey_gets_a_channel(self):
        assert unit_picture(np.zeros((2, 5), dtype=np.uint8), "x").shape == (2, 5, 1)

    def test_every_8_bit_value_survives(self):
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        assert np.array_equal(round_to_8_bits(unit_picture(values, "x")), unit_picture(values, "x"))


class TestEvaluatePairs:
    def test_the_given_input_is_restored(self, scene):
        noisy = round_to_8_bits(gaussian_noisy(scene, 0.1, seed=5))
        result = evaluate_pairs(nothing, [("a", noisy, scene)], 0.1, noise="camera", with_ssim=False)
        assert result.psnr == psnr(noisy, scene)
        assert result.to_json()["noise"] == "camera"

    def test_super_resolution_returns_the_size_of_the_clean_picture(self, scene):
        small = scene[::2, ::2]

        def double(picture, sigma):
            return picture.repeat(2, axis=0).repeat(2, axis=1)

        result = evaluate_pairs(double, [("a", small, scene)], 0.0, get_protocol("y-bt601:2"), with_ssim=False)
        assert result.psnr > 20
        assert result.megapixels == pytest.approx(48 * 56 / 1e6)
        with pytest.raises(InputError, match="'a'"):
            evaluate_pairs(nothing, [("a", small, scene)], 0.0, with_ssim=False)

    def test_an_empty_set(self):
        with pytest.raises(InputError, match="no picture"):
            evaluate_pairs(nothing, [], 0.1)
