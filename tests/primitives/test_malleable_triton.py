"""The Triton kernels without a GPU: run in Triton's interpreter, and compiled, where triton is installed."""

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

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from grainwise.primitives import malleable_triton

constants = {"group": 2, "taps": 1, "offset": 1, "side": 4, "block": 4}
for name in ("_forward_kernel", "_input_kernel", "_grid_kernel"):
    kernel = getattr(malleable_triton, name)
    kinds = ["*bf16"] * 3 + ["i32"] * 6 + ["constexpr"] * 5
    source = ASTSource(
        fn=kernel,
        signature=dict(zip(kernel.arg_names, kinds, strict=True)),
        constexprs={(kernel.arg_names.index(key),): value for key, value in constants.items()},
    )
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
print("compiled")
"""

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@needs_triton
@pytest.mark.parametrize(("code", "interpret", "said"), [(CODE, "1", "agree\n"), (COMPILE, "0", "compiled\n")])
def test_the_kernels_agree_with_per_tap_and_compile(code: str, interpret: str, said: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "TRITON_INTERPRET": interpret},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == said
