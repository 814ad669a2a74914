"""The slider: what is kept changes nothing."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from grainwise.core.errors import Cancelled, InputError
from grainwise.networks.cfsnet import CFSNet
from grainwise.networks.checkpoint import Card, MeasuredPlan, Weights
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.level_estimator import LevelEstimator
from grainwise.runtime import live as live_module
from grainwise.runtime.denoiser import Denoiser
from grainwise.runtime.jpeg_quality import estimate_jpeg
from grainwise.runtime.jpeg_restorer import JpegRestorer
from grainwise.runtime.level import Level
from grainwise.runtime.live import MOST_LOOKS, LiveRestorer
from grainwise.runtime.merged_network import MergedNetwork
from grainwise.runtime.noise_level import NoiseEstimate, estimate_noise
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


def half_unet(task: str, convs: str) -> HalfUNet:
    torch.manual_seed(0)
    net = HalfUNet(task=task, convs=convs, widths=((16, 24), (16, 32)), blocks=(1, 1))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return net.eval().requires_grad_(False)


def restored(net: HalfUNet, image: np.ndarray, value: float) -> np.ndarray:
    """What a restorer of the network's task gives."""
    plan = net.space.widest
    plans = (MeasuredPlan(str(plan), round(net.macs_per_pixel(plan)), name="best"),)
    card = Card(licence="", data=(), recipe="", commit="", steps=0, seconds=0.0, device="cpu", plans=plans)
    weights = Weights("tiny", net, card)
    if net.facts.task == "dejpeg":
        return JpegRestorer(weights, **EXACT)(image, "best", quality=value)
    return Denoiser(weights, **EXACT)(image, "best", sigma=value)


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
    assert len(live._tiles(0)) > 1
    shares: list[float] = []
    for sigma in (0.1, 0.2):
        again = live.full(sigma, progress=shares.append)
    assert np.array_equal(again, whole)
    assert shares[-1] == 1.0
    assert len(shares) == 2 * len(live._tiles(0))
    assert np.array_equal(live.part(0.2, Box(33, 101, 0, 77)), whole[33:101, 0:77])


def test_a_limit_of_memory_cuts_sharp_parts_into_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    net, image = network(), picture(260, 300)
    free = LiveRestorer(net, image, **EXACT)
    window = Box(33, 241, 50, 290)
    whole, shown = free.full(0.2), free.part(0.2, window)
    assert np.array_equal(shown, whole[window.slices])
    live = LiveRestorer(net, image, **EXACT, max_memory=700)
    monkeypatch.setattr(live_module.memory, "bytes_within", lambda limit: int(20_000 * limit))
    read: list[int] = []
    run = live._run

    def counted(*arguments: object) -> object:
        read.append(arguments[1].shape[2] * arguments[1].shape[3])
        return run(*arguments)

    monkeypatch.setattr(live, "_run", counted)
    assert np.array_equal(live.part(0.2, window), shown)
    assert len(read) > 1
    assert max(read) * live._bytes_per_pixel <= 700 * 20_000
    read.clear()
    assert np.array_equal(live.full(0.2), whole)
    assert len(read) > 1
    assert max(read) * live._bytes_per_pixel <= 700 * 20_000
    assert not live._features
    monkeypatch.setattr(live_module.memory, "bytes_within", lambda limit: 0)
    for call in (lambda: live.part(0.2, window), lambda: live.full(0.2)):
        with pytest.raises(InputError, match="at least .* MB more"):
            call()
    for wrong in (0, -1, float("inf"), "much", True):
        with pytest.raises(InputError, match="number of MB above 0"):
            LiveRestorer(net, image, **EXACT, max_memory=wrong)


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
    tight._tiles(0)
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
    assert np.allclose(live.preview(0.2), expected, atol=1e-6)


def test_other_degradations_are_reduced_when_they_are_restored() -> None:
    net, image = network(task="dejpeg"), picture(90, 130, dtype=np.float32)
    live = LiveRestorer(net, image, preview_pixels=1500, **EXACT)
    narrow = LiveRestorer(net, image, plan=net.space.narrowest, **EXACT).full(30)
    means = torch.nn.functional.avg_pool2d(torch.from_numpy(narrow).permute(2, 0, 1), live.factor)
    assert np.allclose(live.preview(30), means.permute(1, 2, 0).numpy(), atol=1e-6)


def test_threads_at_two_levels_do_not_disturb_each_other() -> None:
    live = LiveRestorer(network(), picture(40, 50), preview_plan=network().space.widest, **EXACT)
    alone = {sigma: (live.full(sigma), live.preview(sigma)) for sigma in (0.05, 0.25)}
    with ThreadPoolExecutor(4) as pool:
        jobs = [(sigma, pool.submit(live.full, sigma), pool.submit(live.preview, sigma)) for sigma in [*alone] * 6]
        for sigma, full, preview in jobs:
            assert np.array_equal(full.result(), alone[sigma][0])
            assert np.array_equal(preview.result(), alone[sigma][1])


@pytest.mark.parametrize(("task", "convs"), [("denoise", "slim"), ("denoise", "hyper"), ("dejpeg", "hyper")])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_networks_that_ship_slide_exactly(task: str, convs: str, dtype: type) -> None:
    net, image = half_unet(task, convs), picture(200, 180, dtype=dtype)
    live = LiveRestorer(net, image, **EXACT)
    window = Box(16, 120, 40, 141)
    for value in (0.2, 0.05, 0.2, 0.0) if task == "denoise" else (30, 80.5, 30, 100):
        whole = live.full(value)
        assert np.array_equal(whole, restored(net, image, value))
        assert np.array_equal(live.part(value, window), whole[window.slices])
        assert np.array_equal(whole, image) == (live._place(value) == 0)


@pytest.mark.parametrize("window", [None, Box(8, 70, 33, 90)])
@pytest.mark.parametrize("kind", ["slim", "hyper", "dejpeg", "hyperres"])
def test_a_prepared_preview_is_what_a_run_gives_but_for_mixing(window: Box | None, kind: str) -> None:
    image = picture(96, 112, dtype=np.float32)
    net = {
        "slim": lambda: half_unet("denoise", "slim"),
        "hyper": lambda: half_unet("denoise", "hyper"),
        "dejpeg": lambda: half_unet("dejpeg", "hyper"),
        "hyperres": network,
    }[kind]()
    ready, fresh_ones = (LiveRestorer(net, image, preview_pixels=3000, **EXACT) for _ in range(2))
    shares: list[float] = []
    ready.prepare(window, around=ready.ends[1] / 3, progress=shares.append)
    assert shares[-1] == 1.0
    knots = ready._looks[window].knots
    assert len(shares) == len(knots.places)
    assert knots.missing(0.5) == []
    for place in (0.0, *knots.places[1:-1:5], 1.0):
        value = ready._value(place)
        assert np.array_equal(ready.preview(value, window), fresh_ones.preview(value, window))
    between = ready._value((knots.places[3] + knots.places[4]) / 2)
    mixed, run = ready.preview(between, window), fresh_ones.preview(between, window)
    assert not np.array_equal(mixed, run)
    ends = [ready.preview(ready._value(knots.places[i]), window) for i in (3, 4)]
    assert np.abs(mixed - run).max() <= 0.5 * np.abs(ends[0] - ends[1]).max()


def test_a_prepared_preview_runs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveRestorer(half_unet("dejpeg", "hyper"), picture(), **EXACT)
    window = Box(0, 64, 0, 64)
    live.prepare(window)
    monkeypatch.setattr(live, "_run", None)
    assert live.preview(33.3, window).shape == (64, 64, 3)
    with pytest.raises(TypeError):
        live.preview(33.3)


def test_preparing_is_cancelled_and_goes_on_nearest_first() -> None:
    live = LiveRestorer(half_unet("denoise", "slim"), picture(), **EXACT)
    with pytest.raises(Cancelled):
        live.prepare(around=0.1, progress=lambda share: False)
    knots = live._looks[None].knots
    done = set(knots.places) - set(knots.missing(0.0))
    assert done == {min(knots.places, key=lambda place: abs(place - live._place(0.1)))}
    live.prepare()
    assert knots.missing(0.0) == []
    for top in range(MOST_LOOKS):
        live.preview(0.1, Box(top, top + 8, 0, 8))
    assert None not in live._looks


def test_what_is_prepared_takes_no_more_than_allowed() -> None:
    net, most = half_unet("denoise", "slim"), 26 * 4 * 3 * 16 * 40
    live = LiveRestorer(net, picture(), prepared_bytes=most, **EXACT)

    def held(window: Box | None) -> int:
        knots = live._looks[window].knots
        return sum(knots.at(place).nbytes for place in knots.places if place not in knots.missing(0.0))

    first, second, large = Box(0, 16, 0, 24), Box(0, 16, 8, 24), Box(0, 17, 0, 40)
    live.prepare(first)
    live.prepare(second)
    assert held(first) + held(second) == most
    live.prepare(large)
    assert list(live._looks) == [second, large]
    assert held(large) == 0
    fresh_one = LiveRestorer(net, picture(), **EXACT)
    assert np.array_equal(live.preview(0.1, large), fresh_one.preview(0.1, large))
    live.prepare(Box(0, 16, 0, 40))
    assert sum(held(window) for window in live._looks) == most
    live.prepare(None)
    assert held(None) == 0
    with pytest.raises(InputError, match="0 bytes, got 250000 and -1"):
        LiveRestorer(net, picture(), prepared_bytes=-1, **EXACT)


def test_noise_that_varies_is_followed_as_a_denoiser_does() -> None:
    net = half_unet("denoise", "slim")
    image = picture(200, 180)
    noise = NoiseEstimate(0.08, (0.1, 0.4, 0.9), (0.02, 0.05, 0.15))
    live = LiveRestorer(net, image, noise=noise, **EXACT)
    assert live.estimate == 0.08
    whole = live.full(0.08)
    level = Level(None, noise, 1.0, net.facts.sigma_max, (200, 180)).of(Box(0, 200, 0, 180), image, torch.device("cpu"))
    x = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    plain = net.extract(net.space.widest).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        y = plain(x, sigma=level)[0].permute(1, 2, 0).numpy()
    assert np.abs(whole - np.rint(y.clip(0, 1) * 255)).max() <= 1
    assert np.abs(whole.astype(int) - LiveRestorer(net, image, **EXACT).full(0.08)).max() > 1
    reduced = LiveRestorer(net, image, noise=noise, preview_pixels=9000, preview_plan=net.space.widest, **EXACT)
    assert reduced.factor == 2
    small = torch.nn.functional.avg_pool2d(x, 2), torch.nn.functional.avg_pool2d(level, 2) / 2
    with torch.inference_mode():
        y = plain(small[0], sigma=small[1])[0].permute(1, 2, 0).numpy()
    assert np.abs(reduced.preview(0.08) - np.rint(y.clip(0, 1) * 255)).max() <= 1


def test_the_estimate_starts_the_slider() -> None:
    image = picture(160, 170)
    assert LiveRestorer(network(), image, **EXACT).estimate == estimate_noise(image).sigma
    assert LiveRestorer(network(task="dejpeg"), image, **EXACT).estimate == estimate_jpeg(image).quality
    assert LiveRestorer(network(task="upscale"), image, **EXACT).estimate is None
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
    for value in (-0.01, 0.3):
        with pytest.raises(InputError, match="from 0 to 0.294118, in the units of denoise"):
            live.preview(value)
    with pytest.raises(InputError, match="a HyperRes or a HalfUNet, got CFSNet"):
        LiveRestorer(CFSNet(blocks=1, width=16), image)
    with pytest.raises(InputError, match="lies inside"):
        live.preview(0.1, Box(0, 30, 0, 10))
    with pytest.raises(InputError, match="how the noise varies"):
        LiveRestorer(half_unet("denoise", "hyper"), image, noise=NoiseEstimate(0.1), **EXACT)
    with pytest.raises(InputError, match="nothing to slide"):
        LiveRestorer(network(convs="slim"), image, **EXACT)
    with pytest.raises(InputError, match="grey picture"):
        LiveRestorer(network(channels=1), image, **EXACT)
    with pytest.raises(InputError, match="the estimator is one for dejpeg"):
        LiveRestorer(network(), image, estimator=LevelEstimator(task="dejpeg", width=4), **EXACT)
    with pytest.raises(InputError, match="at least 1 pixel"):
        LiveRestorer(network(), image, preview_pixels=0, **EXACT)
