"""Seconds per megapixel of one plan in torch, ONNX Runtime and OpenVINO, interleaved in one process.

torch runs as the denoiser runs it (channels_last, tuned allocator), in float32 and in bfloat16 where the CPU has it;
OpenVINO in float32 and as it likes best; ONNX Runtime in float32, and once more with the plan chosen inside a file of
several. Every method runs once to warm up; then all take turns.

    python benchmarks/export_speed.py --budgets fast,best --size 2000x3000 --repeats 7 --threads 2
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch

from grainwise.core.commit import current_commit
from grainwise.export import export_onnx, export_openvino, load_weights
from grainwise.networks.checkpoint import Weights
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.machine import cpu_has_bfloat16, tune_allocator

Run = Callable[[], np.ndarray]


def in_torch(weights: Weights, budget: str, x: np.ndarray, sigma: np.ndarray, dtype: torch.dtype) -> Run:
    network = weights.network.extract(choose_plan(weights, budget).plan).to(dtype)
    network.to(memory_format=torch.channels_last)
    picture, level = torch.from_numpy(x), torch.from_numpy(sigma)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return network(picture, sigma=level).numpy()

    return run


def in_onnx_runtime(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)[0]


def in_openvino(path: Path, threads: int, inputs: dict[str, np.ndarray], precision: str | None) -> Run:
    hints = {"INFERENCE_NUM_THREADS": threads} | ({"INFERENCE_PRECISION_HINT": precision} if precision else {})
    compiled = openvino.Core().compile_model(str(path), "CPU", hints)
    return lambda: compiled(inputs)[0]


def methods(
    weights: Weights, budget: str, others: str, folder: Path, x: np.ndarray, sigma: np.ndarray, threads: int
) -> dict[str, Run]:
    inputs = {"input": x, "sigma": sigma}
    one = export_onnx(weights, folder / "one.onnx", budgets=(budget,)).files[0]
    both = export_onnx(weights, folder / "both.onnx", budgets=(others, budget)).files[0]
    ir = export_openvino(weights, folder / "one.xml", budget=budget).files[0]
    runs = {
        "torch float32": in_torch(weights, budget, x, sigma, torch.float32),
        "onnxruntime": in_onnx_runtime(one, threads, inputs),
        "onnxruntime, plan chosen in the file": in_onnx_runtime(both, threads, {**inputs, "plan": np.array(1)}),
        "openvino float32": in_openvino(ir, threads, inputs, "f32"),
        "openvino as it likes": in_openvino(ir, threads, inputs, None),
    }
    if cpu_has_bfloat16():
        runs["torch bfloat16"] = in_torch(weights, budget, x, sigma, torch.bfloat16)
    return runs


def measure(runs: dict[str, Run], repeats: int, megapixels: float) -> dict[str, dict[str, float]]:
    reference = runs["torch float32"]()
    differences = {name: float(np.abs(run() - reference).max()) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - start) / megapixels)
    return {
        name: {
            "seconds_per_megapixel": statistics.median(times),
            "least": min(times),
            "greatest": max(times),
            "max_difference": differences[name],
        }
        for name, times in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--budgets", default="fast,best")
    parser.add_argument("--size", default="2000x3000", help="height x width")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tune_allocator()
    torch.set_num_threads(arguments.threads)
    height, width = map(int, arguments.size.split("x"))
    x = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    sigma = np.array([25 / 255], np.float32)
    weights = load_weights(arguments.model)
    budgets = arguments.budgets.split(",")
    table = {}
    for budget in budgets:
        other = next(name for name in ("fast", "best") if name != budget)
        with tempfile.TemporaryDirectory() as folder:
            runs = methods(weights, budget, other, Path(folder), x, sigma, arguments.threads)
            table[budget] = measure(runs, arguments.repeats, height * width / 1e6)
        cost = choose_plan(weights, budget).measured.macs_per_pixel
        for name, row in table[budget].items():
            rate = cost / row["seconds_per_megapixel"] / 1e3
            print(
                f"{budget:10s}{name:38s}{row['seconds_per_megapixel']:8.3f} s/MP "
                f"({row['least']:.3f} to {row['greatest']:.3f}){rate:8.1f} GMAC/s, differs by {row['max_difference']:.1g}"
            )
    if arguments.out:
        about = {"commit": current_commit(), "size": arguments.size, "threads": arguments.threads}
        about |= {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "openvino": openvino.__version__}
        arguments.out.write_text(json.dumps({**about, "repeats": arguments.repeats, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
