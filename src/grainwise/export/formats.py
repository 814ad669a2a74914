"""Write a network as an ONNX or an OpenVINO file. A file gets its name once it was run and compared, or never."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grainwise.core.errors import BudgetError, ExportError, InputError
from grainwise.core.optional import optional_module
from grainwise.export import check
from grainwise.export.enlarging import fraction_of
from grainwise.export.graph import (
    EXPORT_EXTRA,
    Proto,
    SigmaInput,
    Told,
    describe,
    facts_of,
    onnx_graph,
    onnx_library,
    takes_batches,
)
from grainwise.export.reference import check_half, reference
from grainwise.export.several import several
from grainwise.networks.checkpoint import Weights
from grainwise.networks.tasks import DENOISE, UPSCALE
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.budget import Choice, choose_plan
from grainwise.runtime.level import is_number
from grainwise.runtime.upscaler import LEAST_SCALE

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "dtmodel": ".dtmodel"}
"""Formats, and how a file of each is named."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        files: the model file, then what lies beside it.
        plans: the plans inside.
        macs_per_pixel: their costs.
        max_difference: the greatest difference from the torch network over all stored cases, in image units.
    """

    files: tuple[Path, ...]
    plans: tuple[ChannelPlan, ...]
    macs_per_pixel: tuple[float, ...]
    max_difference: float


def export_onnx(
    weights: Weights,
    path: Path,
    *,
    budgets: Sequence[str | float] = ("balanced",),
    sigma: SigmaInput | None = None,
    level: float | None = None,
    half: bool = False,
) -> Exported:
    """Write an ONNX file: inputs ``input`` [B, C, H, W] and ``sigma`` or ``level``, output ``output``; any B, H, W from 1.

    Args:
        weights: network and card.
        path: ends in ``.onnx``. Beside it goes ``NAME.onnx.check.npz``, inputs and outputs to check it with.
        budgets: names or MACs/px; see `grainwise.runtime.budget.choose_plan`. Where several are given, the input
            ``plan`` (int64, no dimension) chooses one of them at every call, counted from 0 in this order.
        sigma: ``"picture"`` (default for networks that are told a noise level), ``"map"``, or ``"none"`` for the others.
        level: for the other tasks, JPEG quality or scale, whose kernels are merged. Without it a network for JPEG artifacts
            has the quality as the input ``level`` [1], and takes one picture at a time. Super-resolution needs its scale:
            the bicubic enlargement is part of the file.
        half: store the weights as float16, which must hold them exactly (those of a weights file are stored so; kernels
            that are merged at a level are not). The arithmetic stays float32.

    Raises:
        InputError, BudgetError: a name, budget, ``sigma`` or ``level`` that does not fit.
        ExportError: the graph cannot be made, or the file differs from the network; nothing is written then.
        GrainwiseError: a library is missing.
        OSError: the folder cannot be written.
    """
    check_target(path, "onnx")
    choices = _choices(weights, budgets)
    told = _told(weights, sigma, level)
    _check_half(weights, choices, told, half)
    with staged(path) as folder:
        proto, cases = _graph_and_cases(weights, choices, told, half)
        worst = write_onnx(proto, folder / path.name, cases)
        check.check_path(folder / path.name).write_bytes(check.cases_to_bytes(cases))
    return _exported((path, check.check_path(path)), choices, worst)


def export_openvino(
    weights: Weights,
    path: Path,
    *,
    budget: str | float = "balanced",
    sigma: SigmaInput | None = None,
    level: float | None = None,
    half: bool = False,
) -> Exported:
    """Write an OpenVINO file, ``NAME.xml`` and ``NAME.bin``; what it takes and gives is as in `export_onnx`.

    What `facts_of` tells stands in the runtime information under ``grainwise``.

    Raises:
        As `export_onnx`.
    """
    check_target(path, "openvino")
    choices = (choose_plan(weights, budget),)
    told = _told(weights, sigma, level)
    openvino = optional_module("openvino", needed_for="an OpenVINO file", install=EXPORT_EXTRA)
    _check_half(weights, choices, told, half)
    with staged(path) as folder:
        proto, cases = _graph_and_cases(weights, choices, told, half=False)
        graph = folder / "graph.onnx"
        write_onnx(proto, graph, cases)
        model = openvino.convert_model(graph)
        for entry in proto.metadata_props:
            model.set_rt_info(entry.value, ["grainwise", entry.key])
        openvino.save_model(model, folder / path.name, compress_to_fp16=half)
        graph.unlink()
        worst = check.compare(check.openvino_runner(folder / path.name), cases, path.name)
        check.check_path(folder / path.name).write_bytes(check.cases_to_bytes(cases))
    return _exported((path, path.with_suffix(".bin"), check.check_path(path)), choices, worst)


def write_onnx(proto: Proto, path: Path, cases: Sequence[check.Case]) -> float:
    """Write ``proto`` to ``path``, run it on ``cases``, and give the greatest difference.

    Raises:
        ExportError: it is too great, or the file does not run.
    """
    path.write_bytes(proto.SerializeToString())
    return check.compare(check.onnx_runner(path), cases, path.name)


def check_target(path: Path, format: str) -> None:
    """Refuse a name that a file of ``format`` cannot have.

    Raises:
        InputError: another suffix, the path of a folder, or a path below a file.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file, such as {path / 'model'}{FORMATS[format]}")
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise InputError(f"cannot write {path}: {parent} is no folder")
    if path.suffix != FORMATS[format]:
        raise InputError(f"a file of the format {format} ends in {FORMATS[format]}, got {path.name}")


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` whose files are moved there on success, ``path`` itself last; on any error it is removed.

    Raises:
        OSError: the folder of ``path`` cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as name:
        folder = Path(name)
        yield folder
        for file in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
            file.replace(path.parent / file.name)


def _choices(weights: Weights, budgets: Sequence[str | float]) -> tuple[Choice, ...]:
    choices = tuple(choose_plan(weights, budget) for budget in budgets)
    if not choices:
        raise BudgetError("a file needs at least one budget, got none")
    for place, choice in enumerate(choices):
        if choice.plan in [other.plan for other in choices[:place]]:
            raise BudgetError(
                f"the budget {budgets[place]!r} buys the plan {choice.plan}, which an earlier one buys already"
            )
    return choices


def _told(weights: Weights, sigma: SigmaInput | None, level: float | None) -> Told:
    """How a file is told its degradation."""
    facts = weights.network.facts
    if facts.task != DENOISE and facts.level_range is not None:
        if sigma is not None:
            raise InputError(f"{weights.name} restores {facts.task} and takes no noise level; leave sigma out")
        return level_of(weights, level)
    if level is not None:
        raise InputError(f"{weights.name} takes no level of its task, {facts.task}; leave the level out")
    needed = facts.needs_sigma
    if sigma is None:
        return "picture" if needed else "none"
    if sigma not in ("picture", "map", "none"):
        raise InputError(f"sigma is 'picture', 'map' or 'none', got {sigma!r}")
    if (sigma != "none") != needed:
        wants = "needs a noise level: 'picture' or 'map'" if needed else "takes no noise level: 'none'"
        raise InputError(f"the network of {weights.name} {wants}; got sigma={sigma!r}")
    return sigma


def level_of(weights: Weights, level: float | None) -> Told:
    """The level that is built into a file, checked; or ``"level"``, an input of the file.

    Raises:
        InputError: it is out of range, or there is none where there must be one.
    """
    facts = weights.network.facts
    low, high = sorted(facts.level_range or (0.0, 0.0))
    if facts.task == UPSCALE:
        low = LEAST_SCALE
        if level is None:
            raise InputError(
                f"a file that enlarges has its scale built in: give a level from {low:g} to {high:g}, such as 2"
            )
    else:
        low = max(low, 1.0)
        if level is None:
            return "level"
    if not (is_number(level) and low <= level <= high):
        raise InputError(f"the level of a file for {facts.task} is a number from {low:g} to {high:g}, got {level!r}")
    if facts.task == UPSCALE:
        fraction_of(float(level))
    return float(level)


def _check_half(weights: Weights, choices: tuple[Choice, ...], told: Told, half: bool) -> None:
    """Refuse to store weights in 16 bits that these do not hold."""
    if half and isinstance(told, float):
        raise InputError("kernels that are merged at a level are no 16-bit numbers; leave half out")
    if half:
        for choice in choices:
            check_half(weights, choice)


def _graph_and_cases(
    weights: Weights, choices: tuple[Choice, ...], told: Told, half: bool
) -> tuple[Proto, list[check.Case]]:
    protos = [onnx_graph(weights, choice, told=told, half=half) for choice in choices]
    numbers = range(len(choices)) if len(choices) > 1 else [None]
    proto = several(onnx_library(), protos) if len(choices) > 1 else protos[0]
    batched = all(takes_batches(one) for one in protos)
    describe(onnx_library(), proto, facts_of(weights, choices, told, batched=batched))
    cases: list[check.Case] = []
    for choice, number in zip(choices, numbers, strict=True):
        run = reference(weights, choice, told)
        cases += check.make_cases(run, weights.network.facts, told, batched=batched, plan=number)
    return proto, cases


def _exported(files: tuple[Path, ...], choices: tuple[Choice, ...], worst: float) -> Exported:
    for file in files:
        if not file.is_file():
            raise ExportError(f"{file} was written, but is not there any more; export again")
    plans = tuple(choice.plan for choice in choices)
    return Exported(files, plans, tuple(choice.measured.macs_per_pixel for choice in choices), worst)
