"""Every form of the malleable convolution is the plain loop."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.primitives.malleable_reference import reference
from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.primitives import malleable_native
from grainwise.primitives.malleable_conv import Form, form_in_use, grid_size, malleable_conv2d

needs_compiler = pytest.mark.skipif(not malleable_native.status().available, reason=malleable_native.status().detail)
FORMS: list[Form] = ["per_tap", "native"]
each_form = pytest.mark.parametrize("form", ["per_tap", pytest.param("native", marks=needs_compiler)])


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    group: int
    height: int
    width: int
    stride: int
    kernel: int
    offset: bool
    channels_last: bool = False

    def tensors(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.height * 100 + self.width)
        planes = self.kernel**2 + self.offset
        x = torch.randn(self.batch, self.channels, self.height, self.width, generator=generator, dtype=dtype)
        cells = grid_size(self.height, self.width, self.stride)
        grid = torch.randn(self.batch, planes * self.channels // self.group, *cells, generator=generator, dtype=dtype)
        if self.channels_last:
            x, grid = (t.to(memory_format=torch.channels_last) for t in (x, grid))
        return x, grid

    @property
    def options(self) -> dict[str, object]:
        return {"stride": self.stride, "kernel": self.kernel, "offset": self.offset}


def cases(most_channels: int = 8, most_pixels: int = 12) -> st.SearchStrategy[Case]:
    @st.composite
    def draw(pick: Callable[..., object]) -> Case:
        group = pick(st.integers(1, 3))
        return Case(
            batch=pick(st.integers(1, 2)),
            channels=group * pick(st.integers(1, most_channels // group)),
            group=group,
            height=pick(st.integers(1, most_pixels)),
            width=pick(st.integers(1, most_pixels)),
            stride=pick(st.sampled_from([1, 2, 3, 4, 5, 8, 16, 32])),
            kernel=pick(st.sampled_from([1, 3])),
            offset=pick(st.booleans()),
            channels_last=pick(st.booleans()),
        )

    return draw()


@each_form
@settings(max_examples=25, deadline=None)
@given(case=cases(most_channels=6, most_pixels=11))
def test_each_form_is_the_plain_loop(form: Form, case: Case) -> None:
    x, grid = case.tensors()
    torch.testing.assert_close(
        malleable_conv2d(x, grid, **case.options, form=form), reference(x, grid, **case.options), atol=1e-5, rtol=1e-5
    )


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(case=cases(most_channels=40, most_pixels=70))
def test_the_native_form_and_its_gradients_are_those_of_per_tap(case: Case) -> None:
    x, grid = case.tensors()
    slope = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    results = []
    for form in FORMS:
        leaves = x.clone().requires_grad_(), grid.clone().requires_grad_()
        y = malleable_conv2d(*leaves, **case.options, form=form)
        results.append((y, *torch.autograd.grad(y, leaves, slope)))
    for one, other in zip(*results, strict=True):
        scale = float(one.detach().abs().max()) + 1
        torch.testing.assert_close(one, other, atol=1e-5 * scale, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(case=cases(most_channels=3, most_pixels=7))
def test_gradients_are_right_in_float64(case: Case) -> None:
    x, grid = (t.requires_grad_() for t in case.tensors(torch.float64))
    assert torch.autograd.gradcheck(lambda a, b: malleable_conv2d(a, b, **case.options), (x, grid))


@needs_compiler
@settings(max_examples=20, deadline=None)
@given(case=cases(most_channels=40, most_pixels=40))
def test_bfloat16_is_rounded_once(case: Case) -> None:
    """The native form computes in float32, so its error is that of its inputs and of one rounding."""
    x, grid = case.tensors(torch.bfloat16)
    exact = malleable_conv2d(x.double(), grid.double(), **case.options)
    result = malleable_conv2d(x, grid, **case.options, form="native")
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.double(), exact, rtol=2**-8, atol=1e-5)


@needs_compiler
def test_bfloat16_keeps_what_is_not_a_number() -> None:
    x, grid = Case(1, 16, 1, 4, 4, 2, 1, False).tensors(torch.bfloat16)
    x[0, 3, 1, 1] = float("nan")
    y = malleable_conv2d(x, grid, stride=2, kernel=1, form="native")
    assert y[0, 3, 1, 1].isnan()
    assert int(y.isfinite().sum()) == y.numel() - 1


@each_form
@settings(max_examples=25, deadline=None)
@given(data=st.data(), stride=st.sampled_from([4, 8, 16, 32]), kernel=st.sampled_from([1, 3]))
def test_a_tile_with_the_cells_it_needs_equals_the_whole_exactly(
    form: Form, data: st.DataObject, stride: int, kernel: int
) -> None:
    height, width = data.draw(st.integers(3 * stride, 200)), data.draw(st.integers(3 * stride, 200))
    x, grid = Case(1, 20, 1, height, width, stride, kernel, True, data.draw(st.booleans())).tensors()
    whole = malleable_conv2d(x, grid, stride=stride, kernel=kernel, offset=True, form=form)
    top, left = (stride * data.draw(st.integers(0, (size - 2 * stride) // stride)) for size in (height, width))
    bottom, right = (data.draw(st.integers(at + 2 * stride, size)) for at, size in ((top, height), (left, width)))
    cells = slice(top // stride, -(-bottom // stride)), slice(left // stride, -(-right // stride))
    part = malleable_conv2d(
        x[:, :, top:bottom, left:right], grid[:, :, *cells], stride=stride, kernel=kernel, offset=True, form=form
    )
    border = stride  # the outermost half cells lack a neighbour in the tile's grid
    inner = (
        slice(0 if top == 0 else border, None if bottom == height else bottom - top - border),
        slice(0 if left == 0 else border, None if right == width else right - left - border),
    )
    assert torch.equal(part[:, :, *inner], whole[:, :, top:bottom, left:right][:, :, *inner])


@needs_compiler
def test_threads_agree_with_one() -> None:
    x, grid = Case(2, 48, 2, 90, 70, 8, 3, True).tensors()
    alone = malleable_conv2d(x, grid, stride=8, offset=True)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(malleable_conv2d(x, grid, stride=8, offset=True), alone)
    finally:
        torch.set_num_threads(before)
    with ThreadPoolExecutor(3) as pool:
        for result in pool.map(lambda _: malleable_conv2d(x, grid, stride=8, offset=True), range(12)):
            assert torch.equal(result, alone)


def test_a_grid_of_one_kernel_is_a_plain_depthwise_convolution() -> None:
    x = torch.randn(2, 5, 13, 9)
    weight, bias = torch.randn(5, 1, 3, 3), torch.randn(5)
    flat = torch.cat([weight.view(5, 9).t().flatten(), bias])
    grid = flat.view(1, 50, 1, 1).expand(2, 50, *grid_size(13, 9, 4))
    expected = torch.nn.functional.conv2d(x, weight, bias, padding=1, groups=5)
    torch.testing.assert_close(malleable_conv2d(x, grid, stride=4, offset=True), expected)


def test_autograd_keeps_the_input_and_the_grid_alone() -> None:
    x, grid = (t.requires_grad_() for t in Case(1, 8, 1, 64, 64, 8, 3, True).tensors())
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        malleable_conv2d(x, grid, stride=8, offset=True)
    assert sum(t.numel() for t in kept) == x.numel() + grid.numel()


def test_it_exports_as_resize_multiply_add() -> None:
    class Op(torch.nn.Module):
        def forward(self, x: Tensor, grid: Tensor) -> Tensor:
            return malleable_conv2d(x, grid, stride=4, offset=True)

    x, grid = Case(1, 4, 1, 16, 24, 4, 3, True).tensors()
    with torch.no_grad():
        program = torch.export.export(Op(), (x, grid))
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.upsample_bilinear2d.vec" in names
    assert "aten.addcmul_.default" in names
    assert not any("grid_sample" in name or "unfold" in name for name in names)
    torch.testing.assert_close(program.module()(x, grid), malleable_conv2d(x, grid, stride=4, offset=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 5}, "kernel 1 or 3"),
        ({"stride": 0}, "stride from 1"),
        ({"stride": 3}, r"the grid for \[1, 6, 8, 8\] at stride 3"),
        ({"offset": True}, "the grid for"),
        ({"form": "fast"}, "form is auto"),
        ({"form": "triton"}, "needs CUDA"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, object], message: str) -> None:
    x, grid = Case(1, 6, 1, 8, 8, 4, 3, False).tensors()
    with pytest.raises(InputError, match=message):
        malleable_conv2d(x, grid, **({"stride": 4, "kernel": 3} | options))


def test_a_form_that_cannot_take_the_dtype_is_refused_and_auto_falls_back() -> None:
    x, grid = Case(1, 6, 1, 8, 8, 4, 3, False).tensors(torch.float64)
    assert form_in_use(x) == "per_tap"
    with pytest.raises(InputError, match="native form is not to be had here"):
        malleable_conv2d(x, grid, stride=4, form="native")


@pytest.fixture
def unloaded() -> Iterator[None]:
    """The library is looked for anew, during the test and after it."""
    malleable_native._loaded.cache_clear()
    yield
    malleable_native._loaded.cache_clear()


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("GRAINWISE_NATIVE", "0", "switched off"),
        ("CXX", "no-such-compiler", "no C.. compiler was found"),
        ("CXX", "false", "could not be built or loaded|could not build it"),
    ],
)
def test_without_a_compiler_the_plain_form_serves_and_says_why(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    x, grid = Case(1, 6, 1, 8, 8, 4, 3, False).tensors()
    assert malleable_conv2d(x, grid, stride=4).shape == x.shape
    assert form_in_use(x) == "per_tap"
    assert not malleable_native.status().available
    assert re.search(reason, malleable_native.status().detail)
    assert capfd.readouterr() == ("", "")


@needs_compiler
def test_the_library_is_built_at_first_use_not_at_import(tmp_path: object) -> None:
    code = (
        "import os, torch\nfrom grainwise.primitives import malleable_conv, malleable_native\n"
        "cache = os.environ['XDG_CACHE_HOME']\nassert os.listdir(cache) == []\n"
        "assert malleable_native.status().available\n"
        "print([name for _, _, names in os.walk(cache) for name in names])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(".so") == 1
