"""Seconds per megapixel of a plan in torch, ONNX Runtime and OpenVINO: one process, a row at a time, the methods taking turns.

torch runs as the denoiser runs it (channels_last, tuned allocator), in float32 and, where the CPU multiplies it, in bfloat16;
ONNX Runtime in float32; OpenVINO in float32 and bfloat16, from the ONNX file (an exported .xml holds the same graph). Every
method runs once to warm up, then all take turns. A plan that takes long gets fewer turns, so that those of each are done
within `--seconds`. The rows of a plan are printed and written as soon as they are there.

    python benchmarks/export_speed.py
    python benchmarks/export_speed.py --budgets best --size 2000x3000 --repeats 7 --threads 2

Writes docs/results/export-speed.md and .json.
"""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch

from grainwise.core.commit import current_commit
from grainwise.core.files import whole_file
from grainwise.evaluation.environment import environment
from grainwise.export import export_onnx, load_weights
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


def in_openvino(path: Path, threads: int, inputs: dict[str, np.ndarray], precision: str) -> Run:
    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.Core().compile_model(str(path), "CPU", hints)
    return lambda: compiled(inputs)[0]


def methods(
    weights: Weights, budget: str, folder: Path, x: np.ndarray, sigma: np.ndarray, threads: int
) -> dict[str, Run]:
    """What is compared; torch in float32, the reference of all differences, comes first."""
    inputs = {"input": x, "sigma": sigma}
    one = export_onnx(weights, folder / "one.onnx", budgets=(budget,)).files[0]
    runs = {
        "torch float32": in_torch(weights, budget, x, sigma, torch.float32),
        "ONNX Runtime float32": in_onnx_runtime(one, threads, inputs),
        "OpenVINO float32": in_openvino(one, threads, inputs, "f32"),
    }
    if cpu_has_bfloat16():
        runs["torch bfloat16"] = in_torch(weights, budget, x, sigma, torch.bfloat16)
        runs["OpenVINO bfloat16"] = in_openvino(one, threads, inputs, "bf16")
    return runs


def measure(runs: dict[str, Run], repeats: int, seconds: float, megapixels: float) -> dict[str, dict[str, Any]]:
    """Each method's seconds per megapixel; turns end when the next one would exceed ``seconds``, but there are three."""
    reference = runs["torch float32"]()
    differences = {name: float(np.abs(run() - reference).max()) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for turn in range(repeats):
        gone = time.perf_counter() - begin
        if turn >= 3 and gone * (turn + 1) / turn > seconds:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) / megapixels)
    return {
        name: {
            "seconds_per_megapixel": statistics.median(taken),
            "least": min(taken),
            "greatest": max(taken),
            "turns": len(taken),
            "max_difference": differences[name],
        }
        for name, taken in times.items()
    }


def table(told: dict[str, Any]) -> str:
    """What was measured so far, in Markdown."""
    here = told["environment"]
    lines = [
        "# Other runtimes",
        "",
        f"`{told['command']}`, {here['cpu']}, {told['threads']} threads of {here['cores']} cores, load {here['load']}, torch "
        f"{here['torch']}, ONNX Runtime {told['onnxruntime']}, OpenVINO {told['openvino']}, commit {here['commit']}. "
        f"{told['size']} pixels, sigma 25.",
        "",
        "Seconds per megapixel: median, least, greatest of the turns. *Differs by*: the greatest difference from torch in",
        "float32, of 255.",
        "",
        "| budget | MACs/px | runtime | s/MP | least | greatest | turns | GMAC/s | differs by |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in told["rows"]:
        times = [f"{row[name]:.3f}" for name in ("seconds_per_megapixel", "least", "greatest")]
        rate = row["macs_per_pixel"] / row["seconds_per_megapixel"] / 1e3
        cells = [row["budget"], f"{row['macs_per_pixel']:,}", row["runtime"], *times, str(row["turns"]), f"{rate:.0f}"]
        lines.append(f"| {' | '.join(cells)} | {255 * row['max_difference']:.2g} |")
    return "\n".join(lines) + "\n"


def write(told: dict[str, Any], folder: Path) -> None:
    with whole_file(folder / "export-speed.json") as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n")
    with whole_file(folder / "export-speed.md") as temporary:
        temporary.write_text(table(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="a denoiser")
    parser.add_argument("--budgets", default="fast,balanced,best")
    parser.add_argument("--size", default="1000x1500", help="height x width")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each method at most")
    parser.add_argument("--seconds", type=float, default=25, help="what the turns of a budget may take")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    tune_allocator()
    torch.set_num_threads(arguments.threads)
    height, width = map(int, arguments.size.split("x"))
    x = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    sigma = np.array([25 / 255], np.float32)
    weights = load_weights(arguments.model)
    told: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/export_speed.py", *sys.argv[1:]]),
        "environment": environment(commit=current_commit(), allocator="mallopt, as the denoiser sets it").to_json(),
        "size": arguments.size,
        "threads": arguments.threads,
        "onnxruntime": onnxruntime.__version__,
        "openvino": openvino.__version__,
        "rows": [],
    }
    for budget in arguments.budgets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            runs = methods(weights, budget, Path(folder), x, sigma, arguments.threads)
            measured = measure(runs, arguments.repeats, arguments.seconds, height * width / 1e6)
        cost = choose_plan(weights, budget).measured.macs_per_pixel
        for runtime, row in measured.items():
            told["rows"].append({"budget": budget, "macs_per_pixel": cost, "runtime": runtime, **row})
            rate = cost / row["seconds_per_megapixel"] / 1e3
            print(f"{budget:10s}{runtime:22s}{row['seconds_per_megapixel']:8.3f} s/MP{rate:8.1f} GMAC/s", flush=True)
        write(told, arguments.out)


if __name__ == "__main__":
    main()
