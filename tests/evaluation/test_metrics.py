import math
import sys

import numpy as np
import pytest

from grainwise.core.errors import GrainwiseError, InputError
from grainwise.evaluation import metrics
from grainwise.evaluation.metrics import psnr, ssim
from grainwise.evaluation.protocol import gaussian_noisy


class TestPsnr:
    def test_by_hand(self):
        clean = np.zeros((4, 4, 3), dtype=np.float32)
        assert psnr(clean + np.float32(0.1), clean) == pytest.approx(20, abs=1e-5)
        assert psnr(clean + np.float32(0.1), clean, peak=10) == pytest.approx(40, abs=1e-5)

    def test_channels_count_jointly(self):
        clean = np.zeros((4, 4, 3), dtype=np.float32)
        restored = clean.copy()
        restored[..., 0] = 0.3
        assert psnr(restored, clean) == pytest.approx(-10 * math.log10(0.03), abs=1e-5)

    def test_identical_pictures_are_infinitely_close(self, scene):
        assert psnr(scene, scene) == math.inf

    def test_agrees_with_scikit_image(self, scene):
        reference = pytest.importorskip("skimage.metrics")
        noisy = gaussian_noisy(scene, 0.1)
        assert psnr(noisy, scene) == pytest.approx(
            reference.peak_signal_noise_ratio(scene, noisy, data_range=1), abs=1e-4
        )

    def test_integers_do_not_wrap(self):
        low, high = np.zeros((2, 2), dtype=np.uint8), np.full((2, 2), 255, dtype=np.uint8)
        assert psnr(low, high, peak=255) == psnr(high, low, peak=255) == 0

    def test_refusals(self, scene):
        with pytest.raises(InputError, match=r"\(96, 112, 3\) and \(96, 111, 3\)"):
            psnr(scene, scene[:, 1:])
        with pytest.raises(InputError, match="nothing to compare"):
            psnr(scene[:0], scene[:0])
        with pytest.raises(InputError, match="above 0"):
            psnr(scene, scene, peak=0)


class TestSsim:
    @pytest.fixture(autouse=True)
    def _needs_torchmetrics(self):
        pytest.importorskip("torchmetrics")

    def test_identical_pictures_have_1(self, scene):
        assert ssim(scene, scene) == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
    @pytest.mark.parametrize("grey", [False, True])
    def test_agrees_with_scikit_image(self, scene, sigma, grey):
        reference = pytest.importorskip("skimage.metrics")
        clean = scene[..., 0] if grey else scene
        noisy = gaussian_noisy(clean, sigma)
        expected = reference.structural_similarity(
            clean,
            noisy,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=None if grey else 2,
        )
        assert ssim(noisy, clean) == pytest.approx(expected, abs=1e-4)

    def test_strips_change_nothing(self, scene, monkeypatch):
        noisy = gaussian_noisy(scene, 0.1)
        whole = ssim(noisy, scene)
        monkeypatch.setattr(metrics, "_STRIP_PIXELS", 112 * 7)
        assert ssim(noisy, scene) == pytest.approx(whole, abs=1e-6)

    def test_the_smallest_picture(self, scene):
        assert ssim(scene[:11, :11], scene[:11, :11]) == pytest.approx(1, abs=1e-6)
        with pytest.raises(InputError, match="at least 11x11 pixels, got 10x112"):
            ssim(scene[:10], scene[:10])

    def test_batches_are_refused(self, scene):
        with pytest.raises(InputError, match="one picture at a time"):
            ssim(scene[None], scene[None])

    def test_a_missing_library_is_named_with_the_cure(self, scene, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
        with pytest.raises(GrainwiseError, match=r"SSIM needs 'torchmetrics.*pip install torchmetrics"):
            ssim(scene, scene)
