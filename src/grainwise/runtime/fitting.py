"""Whether a network fits a restorer; where it does not, which fact is why, and what to do."""

from grainwise.core.errors import InputError
from grainwise.networks.network import Facts
from grainwise.networks.tasks import DEJPEG, DENOISE, UPSCALE

RUN_BY = {
    DENOISE: "grainwise denoise (in Python grainwise.Denoiser)",
    DEJPEG: "grainwise dejpeg (in Python grainwise.JpegRestorer)",
    UPSCALE: "grainwise upscale (in Python grainwise.Upscaler)",
}
"""What runs the weights of a task."""

_BLIND = "grainwise denoise (in Python grainwise.runtime.blind.BlindDenoiser) runs it"


def check_task(name: str, facts: Facts, task: str, shipped: str | None = None) -> None:
    """Refuse a network for another task than ``task``, for which ``shipped`` are weights, if any.

    Raises:
        InputError: it is one.
    """
    if facts.task != task:
        such = "" if shipped is None else f", such as {shipped}"
        raise InputError(
            f"the model {name} restores another degradation, {facts.task}; run it by {RUN_BY[facts.task]}, "
            f"or take a model for {task}{such}"
        )


def check_tiled(name: str, facts: Facts, *, told: bool, shipped: str) -> None:
    """Refuse a network of the task that cannot run in tiles at a level; ``told`` says whether it takes the level.

    Raises:
        InputError: it cannot; the message says why.
    """
    reasons = _shape(facts)
    if not facts.exact_tiles:
        reasons.append("it sees a picture whole, and cannot run in tiles")
    if not told:
        reasons.append(f"it is not told the {'noise level' if facts.task == DENOISE else 'level of its degradation'}")
    if reasons:
        blind = facts.task == DENOISE and not (_shape(facts) or facts.needs_sigma or facts.level_range)
        other = f"{_BLIND}; or " if blind else ""
        raise InputError(f"the model {name} does not fit: {', '.join(reasons)}; {other}take another, such as {shipped}")


def check_blind(name: str, facts: Facts) -> None:
    """Refuse what is no RGB denoiser that is told nothing.

    Raises:
        InputError: the network is no such one; the message says why.
    """
    check_task(name, facts, DENOISE)
    reasons = _shape(facts)
    if facts.needs_sigma or facts.level_range:
        raise InputError(
            f"the model {name} is told the noise level, and BlindDenoiser tells none; run it by {RUN_BY[DENOISE]}"
        )
    if reasons:
        raise InputError(f"the model {name} does not fit: {', '.join(reasons)}; take a network for RGB pictures")


def _shape(facts: Facts) -> list[str]:
    """What keeps a network from pictures in RGB, of the same size afterwards."""
    reasons = []
    if facts.channels != 3:
        reasons.append(f"it takes pictures of {facts.channels} channel{'s' * (facts.channels > 1)}, not RGB")
    if facts.scale != 1:
        reasons.append(f"its result is {facts.scale} times as large")
    return reasons
