"""grainwise restores photographs, denoising first, under a compute budget that the caller chooses.

    >>> import grainwise
    >>> denoiser = grainwise.Denoiser.from_pretrained()          # doctest: +SKIP
    >>> clean = denoiser(noisy, budget="balanced")               # doctest: +SKIP

`JpegRestorer` and `Upscaler` are made and called alike. Importing this package loads nothing heavy; torch is loaded when one of
them, or an estimate, is first used.
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
    from grainwise.runtime.blur_scale import ScaleEstimate, estimate_scale
    from grainwise.runtime.denoiser import Denoiser
    from grainwise.runtime.jpeg_quality import JpegEstimate, estimate_jpeg
    from grainwise.runtime.jpeg_restorer import JpegRestorer
    from grainwise.runtime.noise_level import NoiseEstimate, estimate_noise
    from grainwise.runtime.restoration import Restoration
    from grainwise.runtime.upscaler import Upscaler

__version__ = "0.1.0"

_LAZY = {
    "Denoiser": "grainwise.runtime.denoiser",
    "JpegEstimate": "grainwise.runtime.jpeg_quality",
    "JpegRestorer": "grainwise.runtime.jpeg_restorer",
    "NoiseEstimate": "grainwise.runtime.noise_level",
    "Restoration": "grainwise.runtime.restoration",
    "ScaleEstimate": "grainwise.runtime.blur_scale",
    "Upscaler": "grainwise.runtime.upscaler",
    "estimate_jpeg": "grainwise.runtime.jpeg_quality",
    "estimate_noise": "grainwise.runtime.noise_level",
    "estimate_scale": "grainwise.runtime.blur_scale",
}

__all__ = [
    "BudgetError",
    "Cancelled",
    "Denoiser",
    "GrainwiseError",
    "InputError",
    "JpegEstimate",
    "JpegRestorer",
    "NoiseEstimate",
    "PictureError",
    "PlanError",
    "Restoration",
    "ScaleEstimate",
    "TrainingError",
    "UnknownNameError",
    "Upscaler",
    "WeightsError",
    "__version__",
    "estimate_jpeg",
    "estimate_noise",
    "estimate_scale",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- a module's attributes are of any kind
    """Load what needs torch when it is first asked for."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'grainwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
