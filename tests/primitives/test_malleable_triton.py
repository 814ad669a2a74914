"""The Triton kernels, on the CPU in Triton's interpreter where triton is installed; it is not needed otherwise."""

import importlib.util
import os
import subprocess
import sys

import pytest

CODE = """
import torch
from grainwise.primitives import malleable_triton
from grainwise.primitives.malleable_conv import grid_size, malleable_conv2d

torch.manual_seed(0)
CASES = [
    (1, 5, 1, 7, 9, 4, 3, True), (2, 4, 2, 10, 13, 8, 3, False), (1, 3, 1, 6, 5, 3, 1, True),
    (1, 6, 3, 9, 33, 16, 1, False), (1, 2, 1, 5, 6, 1, 3, True), (1, 2, 1, 40, 35, 32, 3, True),
]
for batch, channels, group, height, width, stride, kernel, offset in CASES:
    x = torch.randn(batch, channels, height, width, requires_grad=True)
    planes = (kernel**2 + offset) * channels // group
    grid = torch.randn(batch, planes, *grid_size(height, width, stride), requires_grad=True)
    how = {"stride": stride, "offset": offset}
    expected = malleable_conv2d(x, grid, kernel=kernel, form="per_tap", **how)
    slope = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, (x, grid), slope)
    inputs = x.detach(), grid.detach()
    results = malleable_triton.forward(*inputs, taps=kernel**2, **how), *malleable_triton.backward(
        slope, *inputs, taps=kernel**2, **how
    )
    for one, other in zip(results, (expected, *gradients)):
        torch.testing.assert_close(one, other.detach(), atol=1e-5 * (1 + float(other.abs().max())), rtol=1e-5)
print("agree")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_kernels_agree_with_per_tap_in_the_interpreter() -> None:
    run = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "agree\n"
