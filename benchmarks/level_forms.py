"""Three ways to convolve a batch with a level of its own for each sample, beside one level for all; one HyperRes layer.

    OMP_NUM_THREADS=1 python benchmarks/level_forms.py

- one level: kernels merged once (what a batch of one level costs);
- grouped: merged kernels for each sample in one grouped convolution (what the layer does);
- linear: both kernels over the whole batch, mixed by the level of each sample;
- loop: merged kernels for each sample, one convolution after the other.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from grainwise.primitives.hyper_conv import Terms, conditioned_conv
from grainwise.primitives.slim_conv import ConvForm
from grainwise.runtime.machine import tune_allocator

FORM = ConvForm("dense", 1, 1)


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The best of ``repeats``, the first not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    tune_allocator()
    print("ms, forward alone / forward and backward\n")
    print("| batch, channels, size, layout | one level | grouped | linear | loop |\n|---|---:|---:|---:|---:|")
    for batch, channels, size in ((16, 64, 48), (16, 64, 32), (4, 64, 48), (16, 16, 32)):
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(batch, channels, size, size).contiguous(memory_format=layout).requires_grad_()
            kernels = tuple(torch.randn(channels, channels, 3, 3, requires_grad=True) for _ in range(2))
            terms = Terms(kernels, tuple(torch.randn(channels, requires_grad=True) for _ in range(2)))
            levels = torch.rand(batch)
            cells = [both(work, args.repeats) for work in ways(x, terms, levels)]
            name = "channels_last" if layout is torch.channels_last else "NCHW"
            print(f"| {batch}, {channels}, {size}, {name} | {' | '.join(cells)} |")


def ways(x: Tensor, terms: Terms, levels: Tensor) -> list[Callable[[], Tensor]]:
    pixels = levels.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
    return [
        lambda: conditioned_conv(x, terms, 0.3, FORM),
        lambda: conditioned_conv(x, terms, levels, FORM),
        lambda: conditioned_conv(x, terms, pixels, FORM),
        lambda: torch.cat([conditioned_conv(x[i : i + 1], terms, levels[i], FORM) for i in range(len(x))]),
    ]


def both(work: Callable[[], Tensor], repeats: int) -> str:
    with torch.inference_mode():
        alone = milliseconds(work, repeats)
    return f"{alone:.1f} / {milliseconds(lambda: work().sum().backward(), repeats):.1f}"


if __name__ == "__main__":
    main()
