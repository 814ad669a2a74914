"""What a gate learns from: its reading of a picture, and the PSNR of every route on it.

The supernet is frozen while its gate trains, so both are the same whenever a picture comes again. A pool of pictures is
therefore answered once, and serves every gate over the same routes, whatever its budget and its labels.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from grainwise.core.errors import InputError, TrainingError
from grainwise.core.files import whole_file
from grainwise.data.crops import Batch, Batches
from grainwise.networks.gated import Gated, GatedNetwork

PART = 8
"""Pictures that are answered at a time; the file of a pool is written after each part."""

SEED = 2**31 + 2
"""No step of a run draws with it."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of some pictures.

    Attributes:
        reading: what the gate reads of each, see `grainwise.networks.gated.Gated.reading`: [B, R].
        psnr: of every route on each, in dB, clipped and not rounded: [B, E]; NaN where nobody asked.
        pixels: of each picture.
    """

    reading: Tensor
    psnr: Tensor
    pixels: int

    def to(self, device: torch.device) -> "Answers":
        """The same on ``device``."""
        return Answers(self.reading.to(device), self.psnr.to(device), self.pixels)


def picture_psnr(output: Tensor, clean: Tensor) -> Tensor:
    """PSNR in dB of each picture [B, 3, H, W], clipped to [0, 1] and not rounded: [B]; at most 100."""
    error = (output.float().clamp(0, 1) - clean).square().mean((1, 2, 3))
    return -10 * error.clamp(min=1e-10).log10()


@torch.no_grad()
def answers_of(gated: Gated, batch: Batch, *, ends_only: bool = False) -> Answers:
    """Run every route on a batch, or the first and the last one alone."""
    tap = gated.tap(batch.noisy)
    psnr = torch.full((len(tap), len(gated.routes)), torch.nan, device=tap.device)
    last = len(gated.routes) - 1
    for route in (0, last) if ends_only else range(last + 1):
        routes = torch.full((len(tap),), route, device=tap.device)
        psnr[:, route] = picture_psnr(gated.finish(routes, tap, batch.noisy), batch.clean)
    return Answers(gated.reading(tap).float(), psnr, batch.noisy.shape[2] * batch.noisy.shape[3])


class AnswerPool:
    """Draws batches of a pool of pictures that were answered before."""

    def __init__(self, answers: Answers, size: int) -> None:
        """Keep them; ``size`` is the side of the pictures in pixels."""
        self.answers, self.size = answers, size

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Answers:
        """See `grainwise.training.loop.Source.batch`.

        Raises:
            InputError: pictures of another size, or more than there are.
        """
        held = len(self.answers.reading)
        if size != self.size or count > held:
            raise InputError(
                f"the pool holds {held} pictures of {self.size} pixels a side, asked for {count} of {size}; change the "
                "loop's batch and crops, or the pool"
            )
        chosen = torch.from_numpy(np.random.default_rng(seed).choice(held, count, replace=False))
        return Answers(self.answers.reading[chosen], self.answers.psnr[chosen], self.answers.pixels)


def answer_pool(
    gated: GatedNetwork,
    batches: Batches,
    path: Path,
    *,
    size: int,
    count: int,
    report: Callable[[int, int], object] | None = None,
) -> AnswerPool:
    """Answer a pool of pictures, and keep the answers in a file; what the file holds is not asked again.

    Args:
        gated: the supernet with its routes, on its device.
        batches: makes the pictures.
        path: of the file; it may hold a part of the pool, from a run that was killed.
        size: side of the pictures in pixels.
        count: how many.
        report: called with the pictures done, and all.

    Raises:
        TrainingError: the file holds answers of another network, routes or pictures, or is damaged.
    """
    mark = _mark(gated, batches, size)
    reading, psnr = _held(path, mark)
    plain, device = gated.extract(), gated.bias.device
    while len(reading) < count:
        batch = batches.batch(size, min(PART, count - len(reading)), (SEED, len(reading)))
        more = answers_of(plain, batch.to(device))
        reading, psnr = torch.cat([reading, more.reading.cpu()]), torch.cat([psnr, more.psnr.cpu()])
        with whole_file(path) as temporary:
            save_file({"reading": reading, "psnr": psnr}, temporary, {"pool": json.dumps(mark)})
        if report is not None:
            report(len(reading), count)
    return AnswerPool(Answers(reading[:count], psnr[:count], size * size), size)


def _mark(gated: GatedNetwork, batches: Batches, size: int) -> dict[str, Any]:
    """What must not change between a pool and its continuation."""
    digest = hashlib.sha256()
    for name, value in sorted(gated.network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    first = hashlib.sha256(batches.batch(size, 1, (SEED, 0)).noisy.contiguous().numpy().tobytes())
    return {
        "weights": digest.hexdigest(),
        "routes": [str(plan) for plan in gated.routes],
        "size": size,
        "pictures": first.hexdigest(),
    }


def _held(path: Path, mark: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The readings and PSNRs of the file; none where there is no file."""
    if not path.is_file():
        return torch.empty(0), torch.empty(0)
    try:
        with safe_open(path, framework="pt") as file:
            before = json.loads((file.metadata() or {})["pool"])
            held = file.get_tensor("reading"), file.get_tensor("psnr")
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise TrainingError(f"the pool {path} cannot be read ({error}); delete it, and it is made anew") from None
    changed = [name for name in mark if before.get(name) != mark[name]]
    if changed:
        raise TrainingError(f"the pool {path} is of another {' and '.join(changed)}; choose another folder")
    return held
