"""What `evaluate` and `bench` share: folders of pictures, and a denoiser as a method under test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from grainwise.runtime.blind import BlindDenoiser
    from grainwise.runtime.denoiser import Denoiser
    from grainwise.runtime.restorer import Restorer

ALLOCATOR = "mallopt M_MMAP_THRESHOLD=1GiB M_TRIM_THRESHOLD=2GiB"


def pictures_in(folder: Path, limit: int | None = None) -> "Iterator[tuple[str, npt.NDArray[Any]]]":
    """(name, pixels) of the pictures below a folder, sorted by path, the first ``limit`` of them.

    Raises:
        InputError: no such folder, no picture in it, or a limit below 1.
    """
    from grainwise.core.errors import InputError
    from grainwise.core.pictures import picture_paths, read_picture

    if limit is not None and limit < 1:
        raise InputError(f"--limit is at least 1, got {limit}")
    if not folder.is_dir():
        raise InputError(f"--data names a folder of pictures, got {folder}")
    paths = picture_paths(folder)[:limit]
    if not paths:
        raise InputError(f"the folder {folder} holds no picture")
    for path in paths:
        yield path.stem, read_picture(path).pixels


def restorer_of(
    denoiser: "Denoiser", budget: str, *, blind: bool = False
) -> "Callable[[npt.NDArray[Any], float], npt.NDArray[Any]]":
    """The denoiser at a budget, told the noise level or estimating it."""

    def restore(noisy: "npt.NDArray[Any]", sigma: float) -> "npt.NDArray[Any]":
        return denoiser(noisy, budget, sigma=None if blind else sigma)  # type: ignore[return-value]

    return restore


def restorer_for(model: str, *, device: str, dtype: str, max_memory: float | None = None) -> "Restorer":
    """The restorer of a model, whatever its task.

    Raises:
        UnknownNameError, WeightsError: no such weights, or a damaged file.
        InputError: a device, dtype or limit of memory that cannot be had, or a network that no restorer takes.
    """
    from grainwise.networks.checkpoint import load_weights
    from grainwise.runtime.denoiser import Denoiser
    from grainwise.runtime.jpeg_restorer import JpegRestorer
    from grainwise.runtime.upscaler import Upscaler

    weights = load_weights(model)
    kinds: dict[str, type[Restorer]] = {kind.task: kind for kind in (Denoiser, JpegRestorer, Upscaler)}
    kind = kinds[weights.network.facts.task]
    return kind(weights, device=device, dtype=dtype, max_memory=max_memory)  # type: ignore[arg-type]


def find_denoiser(
    model: str, *, device: str, dtype: str, max_memory: float | None = None
) -> "Denoiser | BlindDenoiser":
    """The denoiser of a model: one that is told the noise level, or a blind one, with a gate or without.

    Raises:
        UnknownNameError, WeightsError: no such weights, or a damaged file.
        InputError: a device or dtype that is not there, or a network that is no denoiser.
    """
    from grainwise.networks.checkpoint import holds_gate, load_weights
    from grainwise.networks.tasks import DENOISE
    from grainwise.runtime.blind import BlindDenoiser
    from grainwise.runtime.denoiser import Denoiser

    if holds_gate(model):
        return BlindDenoiser.from_pretrained(model, device=device, dtype=dtype, max_memory=max_memory)  # type: ignore[arg-type]
    weights = load_weights(model)
    facts = weights.network.facts
    kind = Denoiser if facts.needs_sigma or facts.task != DENOISE else BlindDenoiser
    denoiser = kind(weights, device=device, dtype=dtype, max_memory=max_memory)  # type: ignore[arg-type]
    denoiser.model = model
    return denoiser


class Tally:
    """What a model did with the pictures of a set, picture by picture.

    Attributes:
        blind: whether the model was told no noise level.
        gated: whether a gate chooses its plans.
        choice: the plan, where there is no gate.
    """

    def __init__(self, denoiser: "Denoiser | BlindDenoiser", budget: str | None, *, blind: bool) -> None:
        """Choose the plan, where there is no gate to do so.

        Raises:
            BudgetError: a budget that cannot be read or met, or one for a gate.
        """
        from grainwise.networks.checkpoint import Weights
        from grainwise.runtime.budget import choose_plan
        from grainwise.runtime.denoiser import Denoiser

        self.denoiser, self.budget = denoiser, budget
        chosen = "balanced" if budget is None else budget
        self.plans: dict[str, int] = {}
        self.cost, self.pixels, self.seconds, self.seconds_gate = 0.0, 0, 0.0, 0.0
        self.gated = not isinstance(denoiser.weights, Weights)
        if isinstance(denoiser.weights, Weights):
            self.choice = choose_plan(denoiser.weights, chosen)
        self.told = restorer_of(denoiser, chosen, blind=blind) if isinstance(denoiser, Denoiser) else None
        self.blind = blind or self.told is None

    def restore(self, noisy: "npt.NDArray[Any]", sigma: float) -> "npt.NDArray[Any]":
        """The restorer under test."""
        from grainwise.runtime.blind import BlindDenoiser

        if self.told is not None:
            return self.told(noisy, sigma)
        assert isinstance(self.denoiser, BlindDenoiser)
        result = self.denoiser.restore(noisy, self.budget)
        pixels = noisy.shape[0] * noisy.shape[1]
        self.plans[str(result.plan)] = self.plans.get(str(result.plan), 0) + 1
        self.cost += result.macs_per_pixel * pixels
        self.pixels += pixels
        self.seconds += result.seconds
        self.seconds_gate += result.seconds_gate
        return result.image  # type: ignore[return-value]

    def to_json(self) -> dict[str, Any]:
        """Plan and cost; of networks told no level the mean cost and seconds; of a gate its routes and seconds besides."""
        plan = None if self.gated else str(self.choice.plan)
        if self.told is not None:
            return {"plan": plan, "macs_per_pixel": self.choice.measured.macs_per_pixel}
        line = {"plan": plan, "macs_per_pixel": self.cost / max(1, self.pixels), "seconds_network": self.seconds}
        return {**line, "plans": self.plans, "seconds_gate": self.seconds_gate} if self.gated else line
