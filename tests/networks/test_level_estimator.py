"""The blind level estimator."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grainwise.core.errors import InputError, WeightsError
from grainwise.networks.checkpoint import (
    Card,
    MeasuredPlan,
    load_estimator,
    load_weights,
    save_estimator,
    save_weights,
)
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.level_estimator import CROP, LevelEstimate, LevelEstimator, _grid

CARD = Card(licence="CC0", data=(), recipe="", commit="", steps=1, seconds=1.0, device="cpu", plans=())


def small(**options: object) -> LevelEstimator:
    torch.manual_seed(0)
    net = LevelEstimator(width=8, **options).eval()
    with torch.no_grad():
        net.tail[-1].weight.mul_(0.01)  # so that it answers within its range
    return net


def test_it_has_the_published_layers() -> None:
    blocks = 4 * 2 * (64 * 64 * 9 + 64)
    linear = 64 * 16 * 32 + 32 + 32 * 16 + 16 + 16 + 1
    net = LevelEstimator()
    assert sum(p.numel() for p in net.parameters()) == 3 * 64 * 9 + 64 + blocks + linear
    assert net(torch.rand(2, 3, CROP, CROP)).shape == (2,)


def test_it_starts_blind_to_brightness_and_half_way() -> None:
    torch.manual_seed(0)
    net = LevelEstimator(width=32).eval()
    with torch.inference_mode():
        features = net.head(torch.full((1, 3, 16, 16), 0.8))[..., 1:, 1:]
        assert float(features.abs().max()) < 1e-5
        assert float(net(torch.full((1, 3, CROP, CROP), 0.3))) == pytest.approx(0.5, abs=0.3)
        x = torch.rand(2, 3, CROP, CROP)
        y = net.head(x)
        for block in net.blocks:
            branch = block.conv2(torch.relu(block.conv1(y)))
            assert 0 < float(branch.std()) < 0.5 * float(y.std())
            y = block(y)


@given(height=st.integers(CROP, 2000), width=st.integers(CROP, 2000), most=st.integers(1, 80))
def test_the_grid_covers_the_picture_or_is_spread_over_it(height: int, width: int, most: int) -> None:
    tops, lefts = _grid(height, width, most)
    assert 1 <= len(tops) * len(lefts) <= most
    for starts, length in ((tops, height), (lefts, width)):
        assert min(starts) >= 0
        assert max(starts) + CROP <= length
        assert starts == sorted(set(starts))
        if len(starts) > 1:
            assert (starts[0], starts[-1]) == (0, length - CROP)
    if most >= -(-height // CROP) * -(-width // CROP):
        covered = torch.zeros(height, width)
        for top in tops:
            for left in lefts:
                covered[top : top + CROP, left : left + CROP] = 1
        assert covered.all()


@pytest.mark.parametrize("size", [(1, 1), (40, 300), (128, 128), (200, 150)])
def test_an_estimate_is_the_mean_of_its_regions_and_always_the_same(size: tuple[int, int]) -> None:
    net = small()
    torch.nn.init.constant_(net.tail[-1].bias, 0.4)
    x = torch.rand(1, 3, *size)
    estimate = net.estimate(x)
    assert estimate == net.estimate(x)
    values = torch.tensor(estimate.grid, dtype=torch.float64)
    assert estimate.value == pytest.approx(float(values.mean()))
    assert 0 < estimate.value < 75 / 255
    assert estimate.map(*size).shape == (1, 1, *size)


def test_regions_see_their_own_pixels() -> None:
    net = small()
    torch.nn.init.constant_(net.tail[-1].bias, 0.4)
    x = torch.rand(1, 3, 256, 256)
    changed = x.clone()
    changed[..., 128:, 128:] = 0
    before, after = (torch.tensor(net.estimate(picture).grid) for picture in (x, changed))
    assert torch.equal(before[0], after[0])
    assert before[1, 0] == after[1, 0]
    assert before[1, 1] != after[1, 1]


def test_levels_are_told_in_the_units_of_the_task() -> None:
    net = small(task="dejpeg")
    assert float(net.level(torch.tensor(25.0))) == 0.75
    torch.nn.init.zeros_(net.tail[-1].weight)
    torch.nn.init.constant_(net.tail[-1].bias, 0.75)
    assert net.estimate(torch.rand(1, 3, 130, 130)).value == pytest.approx(25)
    torch.nn.init.constant_(net.tail[-1].bias, 7)
    assert net.estimate(torch.rand(1, 3, 130, 130)).value == 0


def test_a_map_is_linear_between_regions() -> None:
    level = LevelEstimate(0.5, ((0.0, 1.0),)).map(3, 100)
    assert level.shape == (1, 1, 3, 100)
    assert float(level[0, 0, 1, 0]) == 0
    assert float(level[0, 0, 1, -1]) == 1
    assert (level.diff(dim=3) >= 0).all()


def test_a_file_restores_it(tmp_path: Path) -> None:
    net = small(task="upscale", channels=1).half().float()
    path = tmp_path / "e.safetensors"
    save_estimator(path, net, CARD)
    again, card = load_estimator(path)
    assert card == CARD
    assert again.config == net.config
    x = torch.rand(1, 1, 200, 140)
    assert again.estimate(x) == net.estimate(x)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_estimator(tmp_path / "e.safetensors", small(), CARD)
    with pytest.raises(WeightsError, match="estimates levels"):
        load_weights(tmp_path / "e.safetensors")
    net = HalfUNet(widths=((16,), (16,)), blocks=(1, 1))
    card = Card(**{**{f: getattr(CARD, f) for f in CARD.__slots__}, "plans": (MeasuredPlan("level0=16,level1=16", 1),)})
    save_weights(tmp_path / "n.safetensors", net, card)
    with pytest.raises(WeightsError, match="holds no level estimator"):
        load_estimator(tmp_path / "n.safetensors")
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_estimator(tmp_path / "none.safetensors")


def test_wrong_pictures_and_settings_are_refused() -> None:
    net = small()
    with pytest.raises(InputError, match="128x128"):
        net(torch.rand(1, 3, 64, 64))
    with pytest.raises(InputError, match="takes"):
        net.estimate(torch.rand(1, 1, 200, 200))
    with pytest.raises(InputError, match="at least one crop"):
        net.estimate(torch.rand(2, 3, 200, 200))
    with pytest.raises(InputError, match="width"):
        LevelEstimator(width=0)


def test_under_autocast_it_still_sees_all_bits_of_a_pixel() -> None:
    net = small()
    seen: list[torch.Tensor] = []
    net.blocks.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    x = torch.rand(1, 3, CROP, CROP)
    net(x)
    with torch.autocast("cpu", torch.bfloat16):
        net(x)
        assert net.head(x).dtype == torch.bfloat16
    assert torch.equal(*seen)
