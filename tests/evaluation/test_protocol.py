import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.evaluation.protocol import (
    PROTOCOLS,
    RGB_U8,
    RGB_U8_CLIPPED,
    Noise,
    Protocol,
    gaussian_noisy,
    get_protocol,
    parse_noise,
    round_to_8_bits,
)

GREY = np.full((64, 64, 3), 0.5, dtype=np.float32)


class TestParseNoise:
    def test_the_level_is_given_in_255ths(self):
        assert parse_noise("gaussian:25") == Noise(kind="gaussian", sigma=25 / 255)
        assert parse_noise(" gaussian:0 ").sigma == 0
        assert parse_noise("gaussian:7.5").sigma == pytest.approx(7.5 / 255)

    @given(st.floats(0, 255).map(lambda level: round(level, 3)))
    def test_text_and_noise_go_both_ways(self, level):
        noise = parse_noise(f"gaussian:{level}")
        assert parse_noise(str(noise)).sigma == pytest.approx(noise.sigma, abs=1e-10)

    def test_text_is_as_people_write_it(self):
        assert str(parse_noise("gaussian:25")) == "gaussian:25"
        assert str(parse_noise("gaussian:0.5")) == "gaussian:0.5"

    @pytest.mark.parametrize("text", ["", "gaussian", "gaussian:", ":25", "25"])
    def test_another_form_is_refused(self, text):
        with pytest.raises(InputError, match="KIND:LEVEL"):
            parse_noise(text)

    @pytest.mark.parametrize("level", ["x", "-1", "nan", "inf", "256", "2 5"])
    def test_a_level_that_is_none_is_refused(self, level):
        with pytest.raises(InputError, match="from 0 to 255"):
            parse_noise(f"gaussian:{level}")

    def test_an_unknown_kind_shows_what_is_near(self):
        with pytest.raises(UnknownNameError, match="Did you mean gaussian"):
            parse_noise("gausian:25")
        with pytest.raises(UnknownNameError, match="poisson"):
            Noise(kind="poisson", sigma=0.1)

    @pytest.mark.parametrize("sigma", [-0.1, 25.0, float("nan")])
    def test_sigma_is_in_image_units(self, sigma):
        with pytest.raises(InputError, match="image units"):
            Noise(sigma=sigma)
        with pytest.raises(InputError, match="image units"):
            gaussian_noisy(GREY, sigma)


class TestNoise:
    def test_same_seed_same_noise(self):
        first, again, other = (gaussian_noisy(GREY, 0.1, seed) for seed in (0, 0, 1))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
        assert first.dtype == np.float32

    def test_is_the_documented_generator(self):
        unit = np.random.default_rng(0).standard_normal(GREY.shape, dtype=np.float32)
        assert np.array_equal(RGB_U8.noisy(GREY, 0.1), GREY + np.float32(0.1) * unit)

    def test_has_the_standard_deviation_asked_for(self):
        assert (gaussian_noisy(GREY, 0.1) - GREY).std() == pytest.approx(0.1, rel=0.03)

    def test_sigma_0_changes_nothing(self):
        assert np.array_equal(gaussian_noisy(GREY, 0.0), GREY)

    def test_the_default_is_not_clipped(self):
        noisy = RGB_U8.noisy(np.ones_like(GREY), Noise(sigma=0.2))
        assert noisy.max() > 1.3

    def test_the_clipped_one_is_what_a_file_would_hold(self):
        noisy = RGB_U8_CLIPPED.noisy(GREY, Noise(sigma=0.4))
        assert noisy.min() == 0
        assert noisy.max() == 1
        assert np.allclose(noisy * 255, np.rint(noisy * 255), atol=1e-4)
        assert np.array_equal(noisy, round_to_8_bits(RGB_U8.noisy(GREY, 0.4)))


class TestRegistry:
    def test_names(self):
        assert set(PROTOCOLS) == {"rgb-u8", "rgb-u8-clipped", "rgb-u8-truncated", "y-bt601"}
        assert all(get_protocol(name) is protocol for name, protocol in PROTOCOLS.items())

    def test_unknown_names_show_near_ones(self):
        with pytest.raises(UnknownNameError, match="rgb-u8"):
            get_protocol("rgb-u9")

    def test_a_border_is_part_of_the_name(self):
        protocol = get_protocol("y-bt601:4")
        assert (protocol.name, protocol.border) == ("y-bt601:4", 4)
        assert get_protocol("y-bt601:0") is PROTOCOLS["y-bt601"]

    @pytest.mark.parametrize("name", ["y-bt601:", "y-bt601:x", "y-bt601:-1", "y-bt601:1.5", "y-bt601:²"])
    def test_a_border_is_a_whole_number(self, name):
        with pytest.raises(InputError, match="whole number"):
            get_protocol(name)

    def test_rgb_removes_no_border(self):
        with pytest.raises(InputError, match="removes no border"):
            get_protocol("rgb-u8:4")

    def test_a_negative_border_is_refused(self):
        with pytest.raises(InputError, match="0 pixels or more"):
            Protocol(name="mine", border=-1)

    def test_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            RGB_U8.seed = 1


class TestCompared:
    def test_only_the_output_is_clipped_and_rounded(self):
        picture = np.array([[[-0.5, 0.5003, 1.5]]], dtype=np.float32)
        assert np.array_equal(RGB_U8.compared(picture), picture)
        rounded = RGB_U8.compared(picture, restored=True)
        assert rounded.ravel() == pytest.approx([0, 128 / 255, 1])

    def test_rounding_can_be_switched_off(self):
        raw = Protocol(name="raw", round_output=False)
        assert np.array_equal(raw.compared(GREY, restored=True), GREY)

    def test_luma_is_in_limited_range(self):
        colours = np.array([[[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]], dtype=np.float32)
        luma = get_protocol("y-bt601").compared(colours)
        assert luma.shape == (1, 5, 1)
        assert luma.dtype == np.float32
        assert 255 * luma.ravel() == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-3)

    def test_the_border_goes(self):
        assert get_protocol("y-bt601:4").compared(GREY).shape == (56, 56, 1)
        with pytest.raises(InputError, match="none left"):
            get_protocol("y-bt601:32").compared(GREY)

    def test_luma_of_grey_is_refused(self):
        with pytest.raises(InputError, match="luma of RGB"):
            get_protocol("y-bt601").compared(GREY[..., :1])
