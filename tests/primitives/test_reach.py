"""Traced spans are what gradients say."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from grainwise.primitives.reach import Span, radius

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("conv"), st.sampled_from([1, 3, 5])),
        st.tuples(st.just("pool"), st.sampled_from([2, 4])),
        st.tuples(st.just("resize"), st.sampled_from([2, 3, 4])),
    ),
    max_size=5,
)


def run(x: Tensor, steps: list[tuple[str, int]]) -> Tensor:
    for kind, size in steps:
        if kind == "conv":
            x = F.conv1d(x, torch.ones(1, 1, size, dtype=x.dtype), padding=size // 2)
        elif kind == "pool":
            x = F.avg_pool1d(x, size)
        else:
            x = F.interpolate(x, scale_factor=size, mode="linear", align_corners=False)
    return x


def trace(span: Span, steps: list[tuple[str, int]]) -> Span:
    for kind, size in reversed(steps):
        span = getattr(span, kind)(size)
    return span


@settings(max_examples=60)
@given(steps=STEPS, data=st.data())
def test_a_span_is_exactly_what_is_read(steps: list[tuple[str, int]], data: st.DataObject) -> None:
    length = 4**5
    x = torch.ones(1, 1, length, dtype=torch.float64, requires_grad=True)
    y = run(x, steps)
    middle = y.shape[2] // 2 + data.draw(st.integers(0, 12))
    if middle >= y.shape[2]:
        return
    (gradient,) = torch.autograd.grad(y[0, 0, middle], x)
    read = gradient[0, 0].nonzero()[:, 0]
    span = trace(Span(middle, middle), steps)
    assert (max(span.low, 0), min(span.high, length - 1)) == (int(read.min()), int(read.max()))


def test_a_radius_is_that_of_the_worst_pixel() -> None:
    assert radius(lambda span: span, 1) == 0
    assert radius(lambda span: span.resize(4).pool(4), 4) == 5
    assert radius(lambda span: span.conv(3) | span.conv(5, 2), 8) == 4
