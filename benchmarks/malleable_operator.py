"""Time and memory of each form of the malleable convolution, forward and forward with backward.

    python benchmarks/malleable_operator.py
    python benchmarks/malleable_operator.py --channels 8 --size 64 --runs 3 --out operator.json

The case is 1 x 64 x 512 x 512 with 3x3 kernels at stride 8 unless told otherwise. Every measurement runs in a process of its
own: how far the peak of its resident memory rises in a first run above what it is with the inputs alone (with backward, the
gradient of the result is an input), the result and the gradients included; then the median and the best of more runs. The
allocator is tuned as `grainwise` tunes it. Forms that the package does not have stand beside its own: the unfolded product
that everybody writes first, the taps under torch's own autograd, and a static depthwise convolution, which is the floor.
Each form gets its inputs in the memory layout that suits it best. `malleconv.py` takes the result into its page.
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from grainwise.core.files import whole_file
from grainwise.primitives import malleable_native
from grainwise.primitives.malleable_conv import grid_size, malleable_conv2d
from grainwise.runtime.machine import tune_allocator

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def unfolded(x: Tensor, grid: Tensor, stride: int) -> Tensor:
    """All kernels upsampled, all neighbourhoods unfolded, multiplied and summed."""
    batch, channels, height, width = x.shape
    kernels = F.interpolate(grid, scale_factor=stride, mode="bilinear", align_corners=False)[:, :, :height, :width]
    patches = F.unfold(x, 3, padding=1).view(batch, channels, 9, height, width)
    return (kernels.view(batch, 9, channels, height, width) * patches.transpose(1, 2)).sum(1)


def static(x: Tensor, grid: Tensor, stride: int) -> Tensor:
    """One kernel everywhere: the first of the grid."""
    channels = x.shape[1]
    weight = grid[0, :, 0, 0].view(9, channels).t().reshape(channels, 1, 3, 3)
    return F.conv2d(x, weight, padding=1, groups=channels)


def saved_by_autograd(x: Tensor, grid: Tensor, stride: int) -> Tensor:
    """Tap after tap, but with torch's own autograd, which keeps every upsampled tap."""
    height, width = x.shape[2:]
    padded, total = F.pad(x, (1, 1, 1, 1)), None
    for tap, plane in enumerate(grid.chunk(9, 1)):
        weight = F.interpolate(plane, scale_factor=stride, mode="bilinear", align_corners=False)[:, :, :height, :width]
        source = padded[:, :, tap // 3 : tap // 3 + height, tap % 3 : tap % 3 + width]
        total = weight * source if total is None else torch.addcmul(total, weight, source)
    assert total is not None
    return total


FORMS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "static depthwise convolution": static,
    "unfold": unfolded,
    "per tap, torch's autograd": saved_by_autograd,
    "per_tap": lambda x, grid, stride: malleable_conv2d(x, grid, stride=stride, form="per_tap"),
    "native": lambda x, grid, stride: malleable_conv2d(x, grid, stride=stride, form="native"),
    "triton": lambda x, grid, stride: malleable_conv2d(x, grid, stride=stride, form="triton"),
}
OURS = ("per_tap", "native", "triton")
PLANAR = ("unfold",)
"""The forms that are faster, and no larger, with planes of channels than with channels_last (both were measured)."""


def tensors(args: argparse.Namespace, channels: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The picture and the grid, made without other memory."""
    torch.manual_seed(0)
    cells = grid_size(size, size, args.stride)
    planar = args.form in PLANAR if args.layout == "best" else args.layout == "planar"

    def drawn(planes: int, height: int, width: int) -> Tensor:
        if planar:
            return torch.randn(1, planes, height, width, dtype=dtype, device=args.device)
        return torch.randn(1, height, width, planes, dtype=dtype, device=args.device).permute(0, 3, 1, 2)

    return drawn(channels, size, size), drawn(9 * channels, *cells)


def forget_peak(device: str) -> int:
    """Give free memory back, count the peak from here, and say how many bytes are in use (Linux, or CUDA)."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def peak(device: str) -> int:
    """The most bytes that were in use since `forget_peak`."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")


def resident(name: str) -> int:
    """A line of the process's status, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: one form, one direction."""
    tune_allocator()
    form, dtype = FORMS[args.form], getattr(torch, args.dtype)
    train = args.direction == "backward"

    def run(x: Tensor, grid: Tensor, slope: Tensor | None) -> None:
        if slope is not None:
            form(x, grid, args.stride).backward(slope)
            x.grad = grid.grad = None
        else:
            with torch.inference_mode():
                form(x, grid, args.stride)
        if args.device == "cuda":
            torch.cuda.synchronize()

    def inputs(channels: int, size: int) -> tuple[Tensor, Tensor, Tensor | None]:
        x, grid = (t.requires_grad_(train) for t in tensors(args, channels, size, dtype))
        return x, grid, torch.randn_like(x) if train else None

    run(*inputs(8, 16))
    x, grid, slope = inputs(args.channels, args.size)
    before = forget_peak(args.device)
    run(x, grid, slope)
    extra, times = peak(args.device) - before, []
    for _ in range(args.runs):
        start = time.perf_counter()
        run(x, grid, slope)
        times.append(time.perf_counter() - start)
    return {
        "form": args.form,
        "direction": args.direction,
        "dtype": args.dtype,
        "milliseconds": round(1e3 * statistics.median(times), 2),
        "best_milliseconds": round(1e3 * min(times), 2),
        "extra_mib": round(extra / 2**20, 1),
        "gradients_mib": round((x.nbytes + grid.nbytes) / 2**20, 1) if train else 0,
    }


def agreement(args: argparse.Namespace) -> dict[str, float]:
    """How far each form of the package lies from the unfolded one in float64, on a part of the case."""
    x, grid = tensors(args, args.channels, min(args.size, 64), torch.float32)
    exact = unfolded(x.double().contiguous(), grid.double().contiguous(), args.stride)
    return {
        name: float((FORMS[name](x, grid, args.stride) - exact).abs().max()) for name in present(args) if name in OURS
    }


def present(args: argparse.Namespace) -> list[str]:
    """The forms that can run here."""
    missing = {"native"} if args.device != "cpu" or not malleable_native.status().available else set()
    if args.device != "cuda":
        missing.add("triton")
    return [name for name in FORMS if name not in missing]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtypes", nargs="*", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--layout", choices=["best", "planar", "channels_last"], default="best", help="of the inputs")
    parser.add_argument("--out", type=Path, help="where to write; docs/results/malleconv-operator-DEVICE.json")
    parser.add_argument("--form", choices=list(FORMS), help="measure one form in this process, and print it as JSON")
    parser.add_argument("--direction", choices=["forward", "backward"], default="forward")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    args = parser.parse_args()
    if args.form:
        print(json.dumps(measure(args)))
        return
    rows = []
    for dtype in args.dtypes:
        for direction in ("forward", "backward"):
            for name in present(args):
                given = {"form": name, "direction": direction, "dtype": dtype, "device": args.device}
                given |= {key: getattr(args, key) for key in ("channels", "size", "stride", "runs", "layout")}
                command = [sys.executable, __file__, *(f"--{key}={value}" for key, value in given.items())]
                out = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout
                rows.append(json.loads(out))
                print(json.dumps(rows[-1]), flush=True)
    about = {key: getattr(args, key) for key in ("channels", "size", "stride", "runs", "device")}
    about |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": _machine(args.device)}
    about["error"] = agreement(args)
    path = args.out or RESULTS / f"malleconv-operator-{args.device}.json"
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


def _machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
