"""The slider: what is kept changes nothing."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from grainwise.core.errors import Cancelled, InputError
from grainwise.networks.cfsnet import CFSNet
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.level_estimator import LevelEstimator
from grainwise.runtime import live as live_module
from grainwise.runtime.live import LiveRestorer, MergedNetwork
from grainwise.runtime.noise_level import estimate_noise
from grainwise.runtime.tiles import Box

EXACT = {"device": "cpu", "dtype": "float32"}


def network(**options: object) -> HyperRes:
    torch.manual_seed(0)
    net = HyperRes(**{"blocks": 2, "stream": (16, 24), "inner": (8, 16), **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return net.eval().requires_grad_(False)


def picture(height: int = 70, width: int = 90, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    generator = np.random.default_rng(0)
    values = (
        0.5
        + 0.2 * np.sin(np.arange(height) / 5)[:, None, None]
        + 0.1 * generator.standard_normal((height, width, channels))
    )
    return (values.clip(0, 1) * 255).astype(np.uint8) if dtype is np.uint8 else values.astype(dtype)


def fresh(net: HyperRes, image: np.ndarray, level: float) -> np.ndarray:
    """What the network gives when it is extracted for this level and run on the whole picture."""
    x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    if image.dtype == np.uint8:
        x = x / 255
    x = x.expand(-1, net.facts.channels, -1, -1)
    plain = net.extract(net.space.widest, level).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        y = plain(x)[0]
    y = y.mean(0, keepdim=True) if image.shape[2] == 1 else y
    out = y.permute(1, 2, 0).numpy()
    return np.rint(out.clip(0, 1) * np.float32(255)).astype(np.uint8) if image.dtype == np.uint8 else out


@pytest.mark.parametrize(
    "options", [{}, {"convs": "hyper-quadratic"}, {"convs": "adafm", "conditioned": "body"}, {"channels": 1}]
)
def test_a_moved_slider_gives_exactly_a_fresh_run(options: dict[str, object]) -> None:
    net = network(**options)
    image = picture(channels=1 if "channels" in options else 3, dtype=np.float32)
    live = LiveRestorer(net, image, **EXACT)
    for sigma in (0.1, 0.25, 0.1, 0.0):
        assert np.array_equal(live.full(sigma), fresh(net, image, net.facts.level(sigma)))


def test_tiles_and_windows_are_parts_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    net, image = network(), picture(260, 300)
    whole = LiveRestorer(net, image, **EXACT).full(0.2)
    assert np.array_equal(whole, fresh(net, image, net.facts.level(0.2)))
    monkeypatch.setattr(live_module.memory, "available_bytes", lambda: 2 * 20_000 * 500)
    live = LiveRestorer(net, image, **EXACT)
    assert len(live._tiles()) > 1
    shares: list[float] = []
    for sigma in (0.1, 0.2):
        again = live.full(sigma, progress=shares.append)
    assert np.array_equal(again, whole)
    assert shares[-1] == 1.0
    assert len(shares) == 2 * len(live._tiles())
    assert np.array_equal(live.part(0.2, Box(33, 101, 0, 77)), whole[33:101, 0:77])


def test_kept_features_are_used_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveRestorer(network(), picture(), **EXACT)
    live.full(0.1)
    assert len(live._features) == 1
    calls: list[object] = []
    monkeypatch.setattr(live._full.network, "features", calls.append)
    live.full(0.2)
    assert not calls
    tight = LiveRestorer(network(), picture(), **EXACT)
    monkeypatch.setattr(live_module.memory, "available_bytes", lambda: 10**8)
    tight._tiles()
    monkeypatch.setattr(live_module.memory, "available_bytes", lambda: 0)
    tight.full(0.1)
    assert not tight._features


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_comes_back_as_it_came(dtype: type, channels: int) -> None:
    image = picture(20, 31, channels, dtype)
    kept = image.copy()
    live = LiveRestorer(network(), image, **EXACT)
    out, preview = live.full(0.1), live.preview(0.1)
    assert out.shape == preview.shape == image.shape
    assert out.dtype == preview.dtype == image.dtype
    assert np.array_equal(image, kept)
    tensor = torch.rand(1, 3, 20, 31)
    assert LiveRestorer(network(), tensor, **EXACT).full(0.1).shape == tensor.shape


def test_the_preview_is_reduced_narrow_and_told_so() -> None:
    net, image = network(), picture(90, 130, dtype=np.float32)
    live = LiveRestorer(net, image, preview_pixels=1500, **EXACT)
    assert live.factor == 3
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    small = torch.nn.functional.avg_pool2d(x, 3)
    plain = net.extract(net.space.narrowest, net.facts.level(0.2 / 3)).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = plain(small)[0].permute(1, 2, 0).numpy()
    assert live.preview(0.2).shape == (30, 43, 3)
    assert np.array_equal(live.preview(0.2), expected)
    dejpeg = LiveRestorer(network(task="dejpeg"), image, preview_pixels=1500, **EXACT)
    assert dejpeg.preview(30).shape == image.shape


def test_threads_at_two_levels_do_not_disturb_each_other() -> None:
    live = LiveRestorer(network(), picture(40, 50), preview_plan=network().space.widest, **EXACT)
    alone = {sigma: (live.full(sigma), live.preview(sigma)) for sigma in (0.05, 0.25)}
    with ThreadPoolExecutor(4) as pool:
        jobs = [(sigma, pool.submit(live.full, sigma), pool.submit(live.preview, sigma)) for sigma in [*alone] * 6]
        for sigma, full, preview in jobs:
            assert np.array_equal(full.result(), alone[sigma][0])
            assert np.array_equal(preview.result(), alone[sigma][1])


def test_the_estimate_starts_the_slider() -> None:
    image = picture(160, 170)
    assert LiveRestorer(network(), image, **EXACT).estimate == estimate_noise(image).sigma
    assert LiveRestorer(network(task="dejpeg"), image, **EXACT).estimate is None
    estimator = LevelEstimator(task="dejpeg", width=4).eval()
    told = LiveRestorer(network(task="dejpeg"), image, estimator=estimator, **EXACT).estimate
    assert 0 <= told <= 100


def test_merging_in_place_equals_extracting() -> None:
    net = network()
    merged = MergedNetwork(net, net.space.narrowest, torch.device("cpu"), torch.bfloat16)
    plain = merged.at(0.7)
    assert plain is merged.at(0.2)
    for (name, ours), theirs in zip(
        plain.named_parameters(), net.extract(net.space.narrowest, 0.2).parameters(), strict=True
    ):
        assert torch.equal(ours, theirs.bfloat16()), name


def test_wrong_calls_are_refused() -> None:
    image = picture(20, 20)
    live = LiveRestorer(network(), image, **EXACT)
    for value in (float("nan"), "25", None, True):
        with pytest.raises(InputError, match="level of a slider"):
            live.full(value)
    with pytest.raises(InputError, match="lies inside"):
        live.part(0.1, Box(0, 30, 0, 10))
    with pytest.raises(Cancelled):
        live.full(0.1, progress=lambda share: False)
    for wrong in (HalfUNet(), CFSNet(blocks=1, width=16)):
        with pytest.raises(InputError, match="only HyperRes"):
            LiveRestorer(wrong, image)
    with pytest.raises(InputError, match="nothing to slide"):
        LiveRestorer(network(convs="slim"), image, **EXACT)
    with pytest.raises(InputError, match="grey picture"):
        LiveRestorer(network(channels=1), image, **EXACT)
    with pytest.raises(InputError, match="the estimator is one for dejpeg"):
        LiveRestorer(network(), image, estimator=LevelEstimator(task="dejpeg", width=4), **EXACT)
    with pytest.raises(InputError, match="at least 1 pixel"):
        LiveRestorer(network(), image, preview_pixels=0, **EXACT)
