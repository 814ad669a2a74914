"""Is an exported file the network? Stored inputs and outputs travel with every file, so that anyone can ask again.

A check file (``.npz``) holds numbered cases: ``0.input`` [B, C, H, W], ``0.sigma`` or ``0.level`` where the file takes one,
``0.plan`` where it holds several plans, and ``0.output``, what the torch network gave, all float32 (the plan int64).
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grainwise.core.errors import ExportError, InputError
from grainwise.core.optional import optional_module
from grainwise.export.archive import zip_of
from grainwise.export.graph import EXPORT_EXTRA, Told
from grainwise.export.reference import Array, Runner
from grainwise.networks.network import Facts
from grainwise.networks.tasks import DENOISE

TOLERANCE = 1e-5
"""The greatest difference between a file and its network, in image units: 1/400 of a step of 8 bits."""

SIZES = ((1, 1, 1), (2, 1, 9), (1, 8, 3), (3, 16, 24), (1, 37, 50), (1, 75, 61))
"""Batch, height and width of the stored cases: below, at and between multiples."""


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs by name, and the output of the torch network."""

    inputs: dict[str, Array]
    output: Array


def make_cases(run: Runner, facts: Facts, told: Told, *, batched: bool, plan: int | None = None) -> list[Case]:
    """Shades with noise, at every size of `SIZES`, each with its own level, and what the network makes of them.

    Args:
        run: the torch network, see `grainwise.export.reference.reference`.
        facts: of it.
        told: how the file is told the level; see `grainwise.export.graph.onnx_graph`.
        batched: whether the file takes several pictures at once.
        plan: the number of the plan, for a file that holds several.
    """
    random = np.random.default_rng(0)
    greatest = facts.sigma_max if facts.needs_sigma else 0.2
    cases = []
    for pictures, height, width in SIZES:
        batch = pictures if batched else 1
        noise = random.uniform(0.02, 0.8 * greatest, batch).astype(np.float32)
        if isinstance(told, float) and facts.task == DENOISE:
            noise[:] = told
        shade = np.linspace(0.1, 0.9, width)[None, None, None] * np.linspace(1, 0.4, height)[None, None, :, None]
        grain = random.standard_normal((batch, facts.channels, height, width)) * noise[:, None, None, None]
        inputs: dict[str, Array] = {"input": (shade + grain).astype(np.float32)}
        if told == "picture":
            inputs["sigma"] = noise
        elif told == "map":
            slope = np.linspace(0.5, 1, height)[None, None, :, None] * np.ones((1, 1, 1, width))
            inputs["sigma"] = (noise[:, None, None, None] * slope).astype(np.float32)
        elif told == "level" and facts.level_range is not None:
            start, end = facts.level_range
            inputs["level"] = np.array([start + random.uniform(0.05, 0.95) * (end - start)], np.float32)
        output = run(inputs)
        if plan is not None:
            inputs["plan"] = np.array(plan, np.int64)
        cases.append(Case(inputs, output))
    return cases


def cases_to_bytes(cases: Sequence[Case]) -> bytes:
    """The content of a check file."""
    content = {}
    for number, case in enumerate(cases):
        for name, value in {**case.inputs, "output": case.output}.items():
            buffer = io.BytesIO()
            np.save(buffer, value, allow_pickle=False)
            content[f"{number}.{name}.npy"] = buffer.getvalue()
    return zip_of(content)


def cases_from_bytes(content: bytes) -> list[Case]:
    """Read the content of a check file.

    Raises:
        ExportError: it is damaged, or no check file.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        cases: dict[int, dict[str, Array]] = {}
        for key, value in arrays.items():
            number, _, name = key.partition(".")
            cases.setdefault(int(number), {})[name] = value
        if not cases:
            raise ValueError("it holds no case")
        return [Case({k: v for k, v in case.items() if k != "output"}, case["output"]) for case in cases.values()]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ExportError(f"the check file cannot be read: {error}; export the model anew") from None


def onnx_runner(model: Path | bytes) -> Runner:
    """Run an ONNX file, or its content, in ONNX Runtime on the CPU.

    Raises:
        GrainwiseError: ONNX Runtime is not installed.
        ExportError: it cannot load the file.
    """
    runtime = optional_module("onnxruntime", needed_for="checking an ONNX file", install=EXPORT_EXTRA)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 -- its errors share no base class
        raise ExportError(f"ONNX Runtime cannot load the file: {error}") from None
    return lambda inputs: session.run(None, dict(inputs))[0]


def openvino_runner(path: Path) -> Runner:
    """Run an OpenVINO file (.xml, its .bin beside it) on the CPU, in float32 whatever the CPU likes best.

    Raises:
        GrainwiseError: OpenVINO is not installed.
        ExportError: it cannot load the file.
    """
    openvino = optional_module("openvino", needed_for="an OpenVINO file", install=EXPORT_EXTRA)
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot load the file: {error}") from None
    return lambda inputs: compiled(dict(inputs))[0]


def compare(run: Runner, cases: Sequence[Case], name: str) -> float:
    """The greatest difference over all cases.

    Args:
        run: the file in its runtime.
        cases: inputs and outputs of the network.
        name: of the file, for the message.

    Raises:
        ExportError: it is greater than `TOLERANCE`, or a case has another shape or is not finite.
    """
    worst = 0.0
    for case in cases:
        size = "x".join(map(str, case.inputs["input"].shape))
        try:
            output = run(case.inputs)
        except Exception as error:  # noqa: BLE001 -- each runtime has errors of its own
            raise ExportError(f"{name} does not run at the size {size}: {error}") from None
        if output.shape != case.output.shape:
            raise ExportError(f"{name} gives the shape {output.shape} at {size}, the network gives {case.output.shape}")
        difference = float(np.abs(output - case.output).max())
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{name} differs from the network by {difference:.3g} at the size {size}; {TOLERANCE:g} is allowed. "
                "It is not kept"
            )
        worst = max(worst, difference)
    return worst


def check_path(path: Path) -> Path:
    """Where the check file of a model file lies: beside it, its whole name followed by ``.check.npz``."""
    return path.with_name(f"{path.name}.check.npz")


def verify(path: Path) -> float:
    """Run an exported file on its stored inputs again, here and now, and give the greatest difference.

    Args:
        path: an ``.onnx``, ``.xml`` or ``.dtmodel`` file that an export wrote.

    Raises:
        ExportError: the file or its check file is missing, cannot be read, or differs by more than `TOLERANCE`.
        InputError: another kind of file.
        GrainwiseError: the runtime is not installed.
    """
    try:
        if path.suffix == ".dtmodel":
            with zipfile.ZipFile(path) as package:
                inside = {Path(name).name: package.read(name) for name in package.namelist()}
            pairs = [
                (inside[name], inside[name.replace("model", "check").replace(".onnx", ".npz")])
                for name in inside
                if name.endswith(".onnx")
            ]
            if not pairs:
                raise KeyError("it holds no model")
            return max(compare(onnx_runner(model), cases_from_bytes(cases), path.name) for model, cases in pairs)
        content = check_path(path).read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path} cannot be checked: {error}") from None
    if path.suffix == ".onnx":
        return compare(onnx_runner(path), cases_from_bytes(content), path.name)
    if path.suffix == ".xml":
        return compare(openvino_runner(path), cases_from_bytes(content), path.name)
    raise InputError(f"an exported file ends in .onnx, .xml or .dtmodel, got {path.name}")
