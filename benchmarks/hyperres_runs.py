"""What benchmarks/hyperres.py trains and how it is put to the test: levels, networks, methods."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from resumable_runs import Degrades, noise_of_255

from grainwise.evaluation.degraded import Bicubic, Jpeg
from grainwise.networks.interpolation import interpolated
from grainwise.networks.network import Network
from grainwise.networks.registry import create_network
from grainwise.runtime.blur_scale import estimate_scale
from grainwise.runtime.jpeg_quality import estimate_jpeg
from grainwise.runtime.noise_level import estimate_noise

TASKS = ("denoise", "dejpeg", "sr")
TRAINED: dict[str, tuple[float, ...]] = {
    "denoise": (15, 30, 45, 60, 75),
    "dejpeg": (10, 30, 50, 80),
    "sr": (2, 3, 4, 5),
}
"""Levels of the training: 255 sigma, JPEG quality, scale."""
TABLED: dict[str, tuple[float, ...]] = {
    "denoise": (5, 15, 30, 45, 60, 75, 90), "dejpeg": (10, 30, 50, 70, 80), "sr": (2, 3, 4, 5, 6)
}  # fmt: skip
"""Levels of the tables; those that are not trained have no network of their own."""
ENDS = (TRAINED["denoise"][0], TRAINED["denoise"][-1])
"""What the networks are taught that know two levels."""
BETWEEN, OUTSIDE = (22, 37, 52, 67), (5, 10, 85, 95)
ALONG: tuple[float, ...] = tuple(sorted((*TRAINED["denoise"], *BETWEEN, *OUTSIDE)))
TRUE = (15, 45, 75)
TOLD = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5)
"""Figure 5: shares of the true noise level that the network is told."""
SETS = {"denoise": "cbsd68", "dejpeg": "live1", "sr": "set5"}
DEGRADATIONS = {"denoise": "gaussian", "dejpeg": "jpeg", "sr": "bicubic-opencv"}
DEGRADES: dict[str, Degrades] = {
    "denoise": noise_of_255,
    "dejpeg": lambda quality: Jpeg(quality=int(quality)),
    "sr": lambda scale: Bicubic(scale=int(scale), antialias=False),
}
WIDTHS = (16, 24, 32)
Pixels = npt.NDArray[Any]
Method = Callable[[Pixels, float], Pixels]
Estimate = Callable[[Pixels, float], float]


@dataclass(frozen=True)
class Run:
    """One training run.

    Args:
        kind: runs of one kind take the same time.
        task: see `TASKS`.
        levels: that it is taught.
        config: of the network, beside the task.
        subnets: of the sandwich; 1 teaches the widest alone, more teach uniform plans, those that are scored.
        learns: see `LevelsMethod`.
        start: the run whose weights it starts from.
        network: its registered name.
        longer: its steps are so many times those of the others.
    """

    kind: str
    task: str
    levels: tuple[float, ...]
    config: tuple[tuple[str, Any], ...] = ()
    subnets: int = 1
    learns: str = "all"
    start: "Run | None" = None
    network: str = "hyperres"
    longer: int = 1

    @property
    def name(self) -> str:
        """Of its folder: the kind, the level that it is taught, where that is one of several, and what else sets it apart."""
        level = "" if len(self.levels) > 1 else f"-{self.levels[0]:g}"
        longer = "" if self.longer == 1 else f"-x{self.longer}"
        return f"{self.kind}{level}{'' if self.start is None else '-second'}{longer}"


def hyper(task: str) -> Run:
    """The hyper-network of all levels."""
    return Run(f"{task}-hyper", task, TRAINED[task])


def dedicated(task: str, level: float, start: Run | None = None) -> Run:
    """A plain network for one level; with ``start``, fine-tuned from another one's."""
    return Run(f"{task}-alone", task, (level,), (("convs", "slim"),), start=start)


def in_two_stages(kind: str, network: str, *config: tuple[str, Any]) -> Run:
    """A network taught all at the least noise level, then its modulation alone at the greatest."""
    config = (*config, ("level_range", tuple(end / 255 for end in ENDS)))
    first = Run(kind, "denoise", ENDS[:1], config, network=network)
    return Run(kind, "denoise", ENDS[1:], config, learns="modulation", start=first, network=network)


ADAFM = in_two_stages("denoise-adafm", "hyperres", ("convs", "adafm"), ("conditioned", "body"))
CFSNET = in_two_stages("denoise-cfsnet", "cfsnet", ("width", WIDTHS[0]))
CRESMD = Run("denoise-cresmd", "denoise", TRAINED["denoise"], (("convs", "scaled"), ("conditioned", "residual")))
DNI = dedicated("denoise", ENDS[1], start=dedicated("denoise", ENDS[0]))
"""What is interpolated with the network that it started from."""
SLIMMABLE = Run(
    "denoise-slimmable", "denoise", TRAINED["denoise"], (("stream", WIDTHS), ("inner", WIDTHS)), subnets=len(WIDTHS)
)
SLIMMABLE_LONGER = replace(SLIMMABLE, longer=2)


def of_width(width: int) -> Run:
    """The hyper-network of one width alone."""
    if width == WIDTHS[-1]:
        return hyper("denoise")
    return Run(f"denoise-width-{width}", "denoise", TRAINED["denoise"], (("stream", (width,)),))


def told(
    network: Network,
    width: int | None = None,
    *,
    share: float = 1.0,
    level_of: Estimate = lambda _, value: value,
) -> Method:
    """A network as a method under test; see `score`."""
    plan = network.space.widest if width is None else network.space.plan({"stream": width, "inner": width})

    @functools.lru_cache(maxsize=1)
    def extracted(*level: float) -> torch.nn.Module:
        return network.extract(plan, *level)

    def restore(picture: Pixels, value: float) -> Pixels:
        at = (float(network.facts.level(share * level_of(picture, value))),) if network.facts.level_range else ()
        x = torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            y = extracted(*at)(x.expand(-1, network.facts.channels, -1, -1))
        return y[0].permute(1, 2, 0).numpy()[..., : picture.shape[2]]

    return restore


def dni(first: Network, second: Network) -> Method:
    """Interpolation of all weights between the networks of the lowest and the highest noise level."""

    @functools.lru_cache(maxsize=1)
    def mixed(sigma: float) -> Method:
        network = create_network("hyperres", first.config)
        share = (255 * sigma - ENDS[0]) / (ENDS[1] - ENDS[0])
        network.load_state_dict(interpolated(first.state_dict(), second.state_dict(), share))
        return told(network.eval())

    return lambda picture, sigma: mixed(sigma)(picture, sigma)


ESTIMATES: dict[str, Estimate] = {
    "denoise": lambda picture, _: estimate_noise(picture).sigma,
    "dejpeg": lambda picture, _: min(95.0, estimate_jpeg(picture).quality),
    "sr": lambda picture, _: estimate_scale(picture).scale,
}
"""The classical blind estimate of each task."""
