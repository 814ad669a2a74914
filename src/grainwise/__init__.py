"""grainwise restores photographs, denoising first, under a compute budget that the caller chooses.

    >>> import grainwise
    >>> denoiser = grainwise.Denoiser.from_pretrained()          # doctest: +SKIP
    >>> clean = denoiser(noisy, budget="balanced")               # doctest: +SKIP

Importing this package loads nothing heavy; torch is loaded when `Denoiser` or `estimate_noise` is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from grainwise.core.errors import (
    BudgetError,
    Cancelled,
    GrainwiseError,
    InputError,
    PictureError,
    PlanError,
    TrainingError,
    UnknownNameError,
    WeightsError,
)

if TYPE_CHECKING:
    from grainwise.runtime.denoiser import Denoiser
    from grainwise.runtime.noise_level import NoiseEstimate, estimate_noise
    from grainwise.runtime.restoration import Restoration

__version__ = "0.1.0"

_LAZY = {
    "Denoiser": "grainwise.runtime.denoiser",
    "NoiseEstimate": "grainwise.runtime.noise_level",
    "Restoration": "grainwise.runtime.restoration",
    "estimate_noise": "grainwise.runtime.noise_level",
}

__all__ = [
    "BudgetError",
    "Cancelled",
    "Denoiser",
    "GrainwiseError",
    "InputError",
    "NoiseEstimate",
    "PictureError",
    "PlanError",
    "Restoration",
    "TrainingError",
    "UnknownNameError",
    "WeightsError",
    "__version__",
    "estimate_noise",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- a module's attributes are of any kind
    """Load what needs torch when it is first asked for."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'grainwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
