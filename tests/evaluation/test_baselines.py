import sys

import numpy as np
import pytest

from grainwise.core.errors import GrainwiseError, UnknownNameError
from grainwise.evaluation.baselines import BASELINES, get_baseline
from grainwise.evaluation.measure import evaluate
from grainwise.evaluation.protocol import Noise

LIBRARIES = {"bm3d": ("bm3d",), "opencv-nlm": ("cv2",), "tv": ("skimage",), "wavelet": ("skimage", "pywt")}
GAIN = {"bm3d": 8.0, "opencv-nlm": 5.0, "tv": 8.0, "wavelet": 6.0}
"""dB over the noisy picture at 255*sigma = 25, which each reaches on the synthetic scene."""


@pytest.fixture(params=sorted(BASELINES))
def name(request):
    for library in LIBRARIES[request.param]:
        pytest.importorskip(library)
    return request.param


def test_every_baseline_is_tested():
    assert set(LIBRARIES) == set(GAIN) == set(BASELINES)


@pytest.mark.parametrize("grey", [False, True])
def test_improves_the_picture(name, scene, grey):
    pictures = [("scene", scene[..., :1] if grey else scene)]
    noise = Noise(sigma=25 / 255)
    before = evaluate(lambda noisy, sigma: noisy, pictures, noise, with_ssim=False).psnr
    after = evaluate(get_baseline(name), pictures, noise, with_ssim=False).psnr
    assert after > before + (GAIN[name] - 3 if grey else GAIN[name])


def test_does_not_swap_channels(name, scene):
    restored = get_baseline(name)(scene, 2 / 255)
    assert np.abs(restored - scene).mean() < 0.01


def test_sigma_0_leaves_the_picture_alone(name, scene):
    assert np.array_equal(get_baseline(name)(scene, 0.0), scene)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(8, 9), (17, 40)])
def test_small_pictures_are_taken(name, scene, size):
    small = scene[: size[0], : size[1]]
    assert np.asarray(get_baseline(name)(small, 0.1)).shape == small.shape


def test_unknown_names_show_near_ones():
    with pytest.raises(UnknownNameError, match="Did you mean wavelet"):
        get_baseline("wavelets")


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_a_missing_library_is_named_with_the_cure(name, monkeypatch):
    missing = {"bm3d": "bm3d", "opencv-nlm": "cv2", "tv": "skimage.restoration", "wavelet": "pywt"}[name]
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(GrainwiseError, match=rf"'{name}' needs '{missing}'.*pip install"):
        get_baseline(name)
