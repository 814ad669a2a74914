"""Teachers: what would have a student say something better than it does.

One contract for all: a teacher answers a batch. The two heterogeneous kinds of MDRN's abstract (arXiv 2204.13873; how they
work is our reading, see `grainwise.training.distillation`) are a network of another architecture or size at the same noisy
picture, and a network that sees a less noisy version of it. In-place synergy (DDS-Net, section III-A) is the weight-shared
kind: a larger sub-network of the student itself, or the mean of several.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError, UnknownNameError, WeightsError
from grainwise.core.optional import optional_module
from grainwise.data.crops import Batch
from grainwise.networks.checkpoint import load_weights
from grainwise.networks.network import Network
from grainwise.primitives.channels import ChannelPlan

TORCHSCRIPT = (".pt", ".pth", ".ts")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a network says: the restored ``output`` [B, C, H, W], and tapped ``features``, each [B, Ci, Hi, Wi]."""

    output: Tensor
    features: tuple[Tensor, ...] = ()


class Teacher(Protocol):
    """Gives targets. No teacher is a part of the student's method: none is trained by it or saved with it."""

    @property
    def identity(self) -> str:
        """What tells this teacher from all others, its weights included; a resumed run needs the same."""

    def __call__(self, batch: Batch, seniors: Sequence[Answer]) -> Answer:
        """What the student should have said of ``batch``; no gradient flows into it.

        Args:
            batch: clean and noisy pictures and their levels.
            seniors: answers of the student's own larger sub-networks to this batch, largest first.
        """


class Largest:
    """In-place synergy's teacher of the middle sub-networks: the largest one (DDS-Net, eq. 6)."""

    identity = "the largest sub-network"

    def __call__(self, batch: Batch, seniors: Sequence[Answer]) -> Answer:
        """See `Teacher`; needs one senior."""
        return Answer(_needed(seniors)[0].output.detach())


class Ensemble:
    """In-place synergy's teacher of the smallest sub-network: the mean of all the others (DDS-Net, eq. 7)."""

    identity = "the mean of all larger sub-networks"

    def __call__(self, batch: Batch, seniors: Sequence[Answer]) -> Answer:
        """See `Teacher`; needs one senior."""
        return Answer(torch.stack([senior.output.detach() for senior in _needed(seniors)]).mean(0))


class NetworkTeacher:
    """A network of the package at one plan: model-heterogeneous distillation.

    Args:
        network: with its weights, which are copied.
        plan: the widest where none is given.
        taps: names of modules of the network whose outputs are the features.

    Raises:
        PlanError: the network has no such plan.
        UnknownNameError: the network has no such module.
    """

    def __init__(self, network: Network, plan: ChannelPlan | None = None, *, taps: Sequence[str] = ()) -> None:
        """Extract the plan."""
        plan = network.space.widest if plan is None else plan
        check_taps(network, taps)
        self.facts, self.taps = network.facts, tuple(taps)
        self._plain = network.extract(plan).requires_grad_(False)
        digest = hashlib.sha256(repr((network.config, plan)).encode())
        for name, value in sorted(self._plain.state_dict().items()):
            digest.update(name.encode() + value.cpu().numpy().tobytes())
        self.identity = f"{type(network).__name__} {digest.hexdigest()}"

    def __call__(self, batch: Batch, seniors: Sequence[Answer]) -> Answer:
        """See `Teacher`; the seniors are not asked."""
        self._plain.to(batch.noisy.device)
        with torch.no_grad():
            return answer_of(self._plain, self.taps, batch.noisy, **self.facts.given(batch.sigma))


class ForeignTeacher:
    """A network that is not of the package, as a function; it gives no features.

    Args:
        run: maps noisy [B, C, H, W] float32 in image units, and sigma [B] in image units, to the restored picture.
        identity: see `Teacher`.
    """

    def __init__(self, run: Callable[[Tensor, Tensor], Tensor], identity: str) -> None:
        """Keep both."""
        self.run, self.identity = run, identity

    def __call__(self, batch: Batch, seniors: Sequence[Answer]) -> Answer:
        """See `Teacher`; the seniors are not asked.

        Raises:
            InputError: what comes back is not a picture of the same shape, or not finite.
        """
        device = batch.noisy.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            output = self.run(batch.noisy, batch.sigma)
        if not isinstance(output, Tensor) or output.shape != batch.noisy.shape or not bool(output.isfinite().all()):
            shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(
                f"a teacher gives finite pictures of the shape {list(batch.noisy.shape)} that it was shown, got {shape}; "
                f"it is {self.identity}"
            )
        return Answer(output.to(device, torch.float32))


class LessNoisy:
    """Shows ``teacher`` the same picture with the same noise, scaled down: noise-heterogeneous distillation.

    Args:
        teacher: the teacher that sees it.
        share: what the noise and its level are multiplied with, from 0 to below 1.

    Raises:
        InputError: ``share`` lies outside [0, 1).
    """

    def __init__(self, teacher: Teacher, share: float) -> None:
        """Check the share."""
        if not 0 <= share < 1:
            raise InputError(f"a less noisy picture has 0 to less than 1 times the noise, got {share}")
        self.teacher, self.share = teacher, share
        self.identity = f"{teacher.identity}, noise times {share:g}"

    def __call__(self, batch: Batch, seniors: Sequence[Answer]) -> Answer:
        """See `Teacher`."""
        noise = batch.noisy - batch.clean
        seen = replace(batch, noisy=batch.clean + self.share * noise, sigma=self.share * batch.sigma)
        return self.teacher(seen, seniors)


def answer_of(network: nn.Module, taps: Sequence[str], *arguments: Any, **named: Any) -> Answer:
    """Call ``network`` and keep what the modules named by ``taps`` give on the way (in their last call).

    Raises:
        InputError: a tapped module was not called, or gave no tensor [B, C, H, W].
    """
    with tapped(network, taps) as caught:
        output = network(*arguments, **named)
    return Answer(output, features_of(caught, taps))


def features_of(caught: Mapping[str, Tensor], taps: Sequence[str]) -> tuple[Tensor, ...]:
    """What `tapped` caught, in the order of ``taps``.

    Raises:
        InputError: a tapped module was not called, or gave no tensor [B, C, H, W].
    """
    for name in taps:
        if not isinstance(caught.get(name), Tensor) or caught[name].ndim != 4:
            raise InputError(f"the module {name!r} gave no tensor [B, C, H, W] to distil; tap another one")
    return tuple(caught[name] for name in taps)


def check_taps(network: nn.Module, taps: Sequence[str]) -> None:
    """Raise `UnknownNameError` unless ``network`` has a module of each name."""
    names = dict(network.named_modules())
    for name in taps:
        if name not in names or not name:
            raise UnknownNameError("module", name, filter(None, names))


def is_foreign(path: str | Path) -> bool:
    """Whether ``path`` names a TorchScript or ONNX file, and not weights of the package."""
    return Path(path).suffix.lower() in (*TORCHSCRIPT, ".onnx")


def load_teacher(path: str | Path, *, plan: str = "", taps: Sequence[str] = ()) -> Teacher:
    """A teacher from a file.

    Args:
        path: weights of the package (a shipped name, or a file); TorchScript (`.pt`, `.pth`, `.ts`); or `.onnx`. Foreign
            files take (noisy) or (noisy, sigma), see `ForeignTeacher`. TorchScript runs the code in the file: load only
            what you trust.
        plan: of weights of the package, as text; the widest where it is empty.
        taps: see `NetworkTeacher`.

    Raises:
        UnknownNameError, WeightsError: no such file or name, or one that cannot be read.
        InputError: a plan or taps for a foreign file, or one that takes other inputs.
        GrainwiseError: an ONNX file without onnxruntime.
    """
    if not is_foreign(path):
        network = load_weights(path).network
        return NetworkTeacher(network, network.space.parse(plan) if plan else None, taps=taps)
    if plan or taps:
        raise InputError(f"{path} is no weights file of grainwise: it has no plan to choose and no features to tap")
    if not Path(path).is_file():
        raise WeightsError(f"there is no teacher {path}; give the path of a file")
    suffix = Path(path).suffix.lower()
    run = _onnx(Path(path)) if suffix == ".onnx" else _torchscript(Path(path))
    return ForeignTeacher(run, f"{suffix} {hashlib.sha256(Path(path).read_bytes()).hexdigest()}")


def _torchscript(path: Path) -> Callable[[Tensor, Tensor], Tensor]:
    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise WeightsError(f"{path} is no readable TorchScript file ({_line(error)})") from None
    count = _one_or_two(path, len(module.forward.schema.arguments) - 1)

    def run(noisy: Tensor, sigma: Tensor) -> Tensor:
        output: Tensor = module.to(noisy.device)(*(noisy, sigma)[:count])
        return output

    return run


def _onnx(path: Path) -> Callable[[Tensor, Tensor], Tensor]:
    onnxruntime = optional_module("onnxruntime", needed_for="an ONNX teacher", install="pip install onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 -- onnxruntime has an error class for each cause
        raise WeightsError(f"{path} is no readable ONNX file ({_line(error)})") from None
    names = [entry.name for entry in session.get_inputs()]
    _one_or_two(path, len(names))

    def run(noisy: Tensor, sigma: Tensor) -> Tensor:
        given = [value.float().cpu().numpy() for value in (noisy, sigma)]
        try:
            output = session.run(None, dict(zip(names, given, strict=False)))[0]
        except Exception as error:  # noqa: BLE001 -- as above
            raise InputError(f"the teacher {path} cannot take pictures {list(noisy.shape)} ({_line(error)})") from None
        return torch.from_numpy(output)

    return run


def _one_or_two(path: Path, count: int) -> int:
    if count not in (1, 2):
        raise InputError(f"a teacher takes (noisy) or (noisy, sigma); {path} takes {count} inputs")
    return count


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _needed(seniors: Sequence[Answer]) -> Sequence[Answer]:
    if not seniors:
        raise InputError("in-place synergy teaches the sub-networks after the largest; the largest has no teacher")
    return seniors


@contextmanager
def tapped(network: nn.Module, taps: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While it lasts, what the named modules give lands in the dictionary."""
    caught: dict[str, Tensor] = {}

    def catching(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def catch(module: nn.Module, given: Any, output: Tensor) -> None:  # noqa: ANN401 -- torch's signature
            caught[name] = output

        return catch

    handles = [network.get_submodule(name).register_forward_hook(catching(name)) for name in taps]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()
