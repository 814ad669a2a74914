"""Eight-bit arithmetic for one plan: PSNR lost against seconds won. An experiment; the package itself stays in floating point.

    python benchmarks/int8.py --train ../shared/data/train-free/cid22 --test ../shared/data/test/cbsd68

The plan is exported to ONNX, and ONNX Runtime's static quantisation gives every convolution 8-bit weights (one scale a channel)
and 8-bit activations (one scale a tensor, from noisy crops of several levels). The file is run by ONNX Runtime and by OpenVINO,
beside torch as the denoiser runs it. `inner` leaves the first and the last convolution in floating point.
"""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from grainwise.cli.restorers import pictures_in
from grainwise.core.commit import current_commit
from grainwise.core.files import whole_file
from grainwise.evaluation.environment import environment
from grainwise.evaluation.measure import evaluate
from grainwise.evaluation.protocol import RGB_U8, FloatPicture, Noise
from grainwise.export import export_onnx, load_weights
from grainwise.networks.checkpoint import Weights
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.machine import cpu_has_bfloat16, tune_allocator

Run = Callable[[np.ndarray, float], np.ndarray]
"""([1, 3, H, W] float32, sigma in image units) -> the restored picture."""

LEVELS = (15, 25, 50)
CALIBRATED = (5, 15, 25, 50, 75)


@dataclass(frozen=True)
class Row:
    """One way to run the plan: PSNR by level in dB, seconds a megapixel, and the same as a share of the first row's."""

    name: str
    psnr: dict[str, float]
    seconds_per_megapixel: float
    speed_up: float


class Crops(CalibrationDataReader):
    """Noisy crops of training pictures, at every level of `CALIBRATED` in turn."""

    def __init__(self, folder: Path, count: int, side: int = 256) -> None:
        generator = np.random.default_rng(0)
        self.inputs: list[dict[str, np.ndarray]] = []
        for index, (_, picture) in enumerate(pictures_in(folder, count)):
            sigma = CALIBRATED[index % len(CALIBRATED)] / 255
            clean = np.asarray(picture[:side, :side, :3], np.float32) / 255
            noisy = clean + sigma * generator.standard_normal(clean.shape, np.float32)
            self.inputs.append({"input": planar(noisy), "sigma": np.array([sigma], np.float32)})
        self.left: Iterator[dict[str, np.ndarray]] = iter(self.inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)

    def rewind(self) -> None:
        self.left = iter(self.inputs)


def planar(picture: FloatPicture) -> np.ndarray:
    """[H, W, 3] -> [1, 3, H, W]."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)


def quantised(source: Path, target: Path, crops: Crops, *, inner: bool) -> Path:
    """``source`` with 8-bit convolutions."""
    convolutions = [node.name for node in onnx.load(source).graph.node if node.op_type == "Conv"]
    crops.rewind()
    quantize_static(
        source,
        target,
        crops,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        nodes_to_exclude=[convolutions[0], convolutions[-1]] if inner else [],
    )
    return target


def in_torch(weights: Weights, budget: str, dtype: torch.dtype) -> Run:
    network = weights.network.extract(choose_plan(weights, budget).plan).to(dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(x: np.ndarray, sigma: float) -> np.ndarray:
        with torch.inference_mode():
            y: np.ndarray = network(torch.from_numpy(x), sigma=torch.tensor([sigma])).numpy()
        return y

    return run


def in_onnx_runtime(path: Path, threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x, sigma: session.run(None, {"input": x, "sigma": np.array([sigma], np.float32)})[0]


def in_openvino(path: Path, threads: int) -> Run:
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": threads})
    return lambda x, sigma: compiled({"input": x, "sigma": np.array([sigma], np.float32)})[0]


def ways(args: argparse.Namespace, folder: Path) -> dict[str, Run]:
    """Every way to run the plan, the one that the denoiser takes first."""
    weights = load_weights(args.model)
    exported = export_onnx(weights, folder / "plan.onnx", budgets=(args.budget,)).files[0]
    crops = Crops(args.train, args.crops)
    every, inner = (
        quantised(exported, folder / f"{name}.onnx", crops, inner=name == "inner") for name in ("every", "inner")
    )
    runs = {"torch bfloat16": in_torch(weights, args.budget, torch.bfloat16)} if cpu_has_bfloat16() else {}
    return runs | {
        "torch float32": in_torch(weights, args.budget, torch.float32),
        "int8, every convolution, OpenVINO": in_openvino(every, args.threads),
        "int8, inner, OpenVINO": in_openvino(inner, args.threads),
        "int8, every convolution, ONNX Runtime": in_onnx_runtime(every, args.threads),
        "int8, inner, ONNX Runtime": in_onnx_runtime(inner, args.threads),
    }


def psnr(run: Run, args: argparse.Namespace) -> dict[str, float]:
    def restore(noisy: FloatPicture, sigma: float) -> FloatPicture:
        restored: FloatPicture = run(planar(noisy), sigma)[0].transpose(1, 2, 0)
        return restored

    scores = {}
    for level in LEVELS:
        pictures = pictures_in(args.test, args.limit)
        scores[str(level)] = evaluate(restore, pictures, Noise(sigma=level / 255), RGB_U8, with_ssim=False).psnr
    return scores


def seconds(runs: dict[str, Run], repeats: int, side: int = 1024) -> dict[str, float]:
    """Medians of all ways in turn, a megapixel; each call comes after a short rest, in which threads of the last one stop."""
    x = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            time.sleep(0.25)
            start = time.perf_counter()
            run(x, 25 / 255)
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) / (side * side / 1e6) for name, times in taken.items()}


def page(rows: list[Row], args: argparse.Namespace) -> str:
    here = environment(commit=current_commit())
    lines = ["# Eight-bit arithmetic", ""]
    lines += [f"`python benchmarks/int8.py {shlex.join(sys.argv[1:])}`", ""]
    lines += [
        f"{here.cpu}, {args.threads} thread(s), torch {here.torch}, ONNX Runtime {onnxruntime.__version__}, OpenVINO"
    ]
    lines += [
        f"{openvino.__version__}, commit {here.commit}, {here.date}. Plan `{args.budget}` of `{args.model}`; protocol"
    ]
    lines += [f"`rgb-u8`, {args.limit or 'all'} pictures; median of {args.repeats} runs of 1024x1024.", ""]
    lines += ["| arithmetic | " + " | ".join(f"sigma {level}" for level in LEVELS) + " | s/MP | speed |"]
    lines += ["|---|" + "---:|" * (len(LEVELS) + 2)]
    for row in rows:
        scores = " | ".join(f"{row.psnr[str(level)]:.2f}" for level in LEVELS)
        lines.append(f"| {row.name} | {scores} | {row.seconds_per_megapixel:.3f} | {row.speed_up:.2f}x |")
    best = max(rows[1:], key=lambda row: row.speed_up if "int8" in row.name else 0.0)
    lost = max(rows[0].psnr[str(level)] - best.psnr[str(level)] for level in LEVELS)
    pays = best.speed_up > 1 and lost < 0.05
    lines += [
        "",
        f"The fastest eight-bit way, {best.name.removeprefix('int8, ')}, runs at {best.speed_up:.2f} times the speed of",
    ]
    lines += [f"{rows[0].name} and loses up to {lost:.2f} dB. It {'pays' if pays else 'does not pay'}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="pictures whose crops set the scales")
    parser.add_argument("--test", type=Path, required=True, help="pictures to score")
    parser.add_argument("--model", default="default")
    parser.add_argument("--budget", default="best")
    parser.add_argument("--crops", type=int, default=20)
    parser.add_argument("--limit", type=int, default=12, help="pictures to score")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--report", type=Path, default=Path("docs/results/int8.md"))
    args = parser.parse_args()
    tune_allocator()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        runs = ways(args, Path(folder))
        times = seconds(runs, args.repeats)
        first = next(iter(times.values()))
        rows = [Row(name, psnr(run, args), times[name], first / times[name]) for name, run in runs.items()]
    for path, text in (
        (args.report, page(rows, args)),
        (args.report.with_suffix(".json"), json.dumps([asdict(row) for row in rows], indent=1) + "\n"),
    ):
        with whole_file(path) as temporary:
            temporary.write_text(text)


if __name__ == "__main__":
    main()
