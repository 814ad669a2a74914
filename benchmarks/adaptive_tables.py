"""What benchmarks/adaptive.py knows of a picture before it routes: the error of every plan, and what routers may read.

All of it is summed over cells of 64 pixels, once; pictures and tiles of any size are sums of cells. A table is kept in a
file, and is not made again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from adaptive_networks import PictureReader
from torch import Tensor, nn

from grainwise.cli.restorers import pictures_in
from grainwise.core.files import whole_file
from grainwise.core.pictures import picture_paths, read_picture
from grainwise.data.camera import Camera, photograph
from grainwise.data.corpus import corpus_of
from grainwise.data.crops import NoisyCrops
from grainwise.evaluation.measure import unit_picture
from grainwise.evaluation.protocol import RGB_U8
from grainwise.networks.gain_predictor import CELL
from grainwise.networks.half_unet import HalfUNet
from grainwise.primitives.channels import ChannelPlan

Floats = np.ndarray
Noisy = tuple[str, Floats, Floats, float]
"""Name (folder/picture), clean and noisy picture [H, W, 3] in image units, and the level that the network is told."""

CAMERA = "camera"
HOLD_OUT = 24
"""One picture in so many was held out of the training of the shipped weights."""
CROP = 256
"""Pixels a side of the crops that routers learn from."""
LEARNED_LEVELS = (5 / 255, 55 / 255)
CAMERA_EVERY = 4
"""One crop in so many has camera noise; the others white noise."""
LEARNING_SEED = 77
CAMERA_SEED = 1000
LARGE = 500_000
"""Pixels from which a held-out picture counts as large."""


@dataclass(frozen=True)
class Table:
    """Cells of noisy pictures.

    Attributes:
        errors: [n, plans], squared error summed over the cell, mean over the channels, the result rounded to 8 bits.
        area: [n], pixels.
        tap: [n, C], mean of the first convolution behind a ReLU, at its full width.
        energy: [n, C], mean square of the first convolution.
        texture: [n, F], see `cell_features`.
        picture, row, column: [n], where the cell lies.
        names, sigma, sizes: of the pictures: folder/name, level told in image units, height and width.
    """

    errors: Floats
    area: Floats
    tap: Floats
    energy: Floats
    texture: Floats
    picture: Floats
    row: Floats
    column: Floats
    names: Floats
    sigma: Floats
    sizes: Floats

    def save(self, path: Path, mark: str) -> None:
        """Write the file whole; ``mark`` tells what it was made from."""
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, mark=np.array(mark), **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path, mark: str) -> "Table | None":
        """Read a file of `save`; None where there is none, or it was made from something else."""
        if not path.is_file():
            return None
        with np.load(path) as held:
            if str(held["mark"]) != mark:
                return None
            return cls(**{f.name: held[f.name] for f in fields(cls)})


def cell_sums(values: Floats, side: int = CELL) -> Floats:
    """[..., H, W] summed over cells of ``side`` samples."""
    rows, columns = (np.arange(0, length, side) for length in values.shape[-2:])
    sums: Floats = np.add.reduceat(np.add.reduceat(values, rows, -2), columns, -1)
    return sums


def tensor_of(picture: Floats) -> Tensor:
    """[H, W, C] -> [1, C, H, W] float32."""
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]


class Answerer:
    """Runs every plan, and reads what routers read.

    Args:
        network: the supernet.
        plans: cheapest first.
        dtype: of the arithmetic.
    """

    def __init__(self, network: HalfUNet, plans: Sequence[ChannelPlan], dtype: torch.dtype) -> None:
        self.plain: list[nn.Module] = [
            network.extract(plan).to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            for plan in plans
        ]
        self.reader = PictureReader(network, network.space.widest["level0"])

    def cells(self, clean: Floats, noisy: Floats, sigma: float) -> dict[str, Floats]:
        """The part of a `Table` that one picture fills."""
        x, level = tensor_of(noisy), torch.tensor([sigma], dtype=torch.float32)
        with torch.inference_mode():
            outputs = [plain(x, sigma=level).clamp(0, 1) for plain in self.plain]
            truth = tensor_of(clean)
            errors = [((out * 255).round() / 255 - truth).square().mean(1)[0].double().numpy() for out in outputs]
            read = self.reader.cells(x, level.view(1, 1, 1, 1))
        area = cell_sums(np.ones(x.shape[2:]))
        rows, columns = area.shape

        texture, tap, energy = (maps.flatten(1).T.contiguous().numpy() for maps in read)
        return {
            "errors": cell_sums(np.stack(errors)).reshape(len(errors), -1).T,
            "area": area.ravel(),
            "tap": tap,
            "energy": energy,
            "texture": texture,
            "row": np.repeat(np.arange(rows), columns),
            "column": np.tile(np.arange(columns), rows),
        }


def table_of(answerer: Answerer, pictures: Iterable[Noisy], tell: Callable[[int], object] = lambda _: None) -> Table:
    """The table of some pictures; ``tell`` is called with how many are done."""
    parts: list[dict[str, Floats]] = []
    told: list[tuple[str, float, tuple[int, int]]] = []
    for name, clean, noisy, sigma in pictures:
        parts.append(answerer.cells(clean, noisy, sigma))
        parts[-1]["picture"] = np.full(len(parts[-1]["area"]), len(told))
        told.append((name, sigma, (clean.shape[0], clean.shape[1])))
        tell(len(told))
    names, sigmas, sizes = zip(*told, strict=True)
    return Table(
        **{key: np.concatenate([part[key] for part in parts]) for key in parts[0]},
        names=np.array(names),
        sigma=np.array(sigmas),
        sizes=np.array(sizes),
    )


def photographed(picture: Floats, seed: int) -> tuple[Floats, Floats, float]:
    """(clean, noisy, root mean square of the noise): the picture through a camera that ``seed`` draws."""
    generator = np.random.default_rng(seed)
    clean, noisy = photograph(picture, Camera().draw(generator), generator)
    return clean, noisy, float(np.sqrt(np.mean((noisy - clean) ** 2)))


def held_out(free: Path) -> dict[str, list[tuple[str, Floats]]]:
    """(name, pixels) of the pictures below ``free`` that the shipped weights did not learn from, as `Corpus.split` has it.

    Returns:
        The ``large`` ones, and the others as ``small``.
    """
    paths = picture_paths(free)
    kept = set(sorted({path.stem for path in paths})[::HOLD_OUT])
    found: dict[str, list[tuple[str, Floats]]] = {"large": [], "small": []}
    for path in (path for path in paths if path.stem in kept):
        pixels = read_picture(path).pixels
        found["large" if pixels.shape[0] * pixels.shape[1] >= LARGE else "small"].append((path.stem, pixels))
    return found


def noisy_pictures(folders: Sequence[Path], free: Path, kind: str, limit: int | None = None) -> Iterator[Noisy]:
    """Every test picture with one noise: ``"25"`` is white noise of 255 * sigma = 25, ``"camera"`` a camera's.

    Args:
        folders: of test pictures.
        free: the folder of the training pictures; those held out are test pictures too.
        kind: of noise.
        limit: pictures of each folder.
    """
    sets = {folder.name: pictures_in(folder, limit) for folder in folders}
    for name, index, pixels in (
        (f"{folder}/{name}", index, pixels)
        for folder, pictures in (*sets.items(), *((key, held[:limit]) for key, held in held_out(free).items()))
        for index, (name, pixels) in enumerate(pictures)
    ):
        unit = unit_picture(pixels, name)
        unit = unit if unit.shape[2] == 3 else np.repeat(unit, 3, 2)
        if kind == CAMERA:
            yield (name, *photographed(unit, index))
        else:
            yield name, unit, RGB_U8.noisy(unit, int(kind) / 255), int(kind) / 255


def learning_crops(free: Path, cache: Path, count: int) -> Iterator[Noisy]:
    """Crops of the pictures that the shipped weights learned from, none preferred, half of them reduced twice."""
    corpus, _ = corpus_of([free], cache, reductions=(1, 2, 3)).split(HOLD_OUT)
    source = NoisyCrops(corpus=corpus, sigma=LEARNED_LEVELS, shares={1: 0.5, 2: 0.5}, texture=0.0, grey=0.0)
    for index in range(count):
        batch = source.batch(CROP, 1, (LEARNING_SEED, index))
        clean = np.ascontiguousarray(batch.clean[0].permute(1, 2, 0).numpy())
        if index % CAMERA_EVERY == CAMERA_EVERY - 1:
            yield (f"crop/{index}", *photographed(clean, CAMERA_SEED + index))
        else:
            yield f"crop/{index}", clean, batch.noisy[0].permute(1, 2, 0).numpy(), float(batch.sigma[0])


def fingerprint(network: nn.Module) -> str:
    """Tells the weights of a network from others."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def mark_of(
    weights: str, plans: Sequence[ChannelPlan], dtype: torch.dtype, folders: Sequence[Path], what: object
) -> str:
    """What a table was made from: ``weights`` as `fingerprint` tells them, names of folders, the seeds of noise and crops."""
    names, seeds = [folder.resolve().name for folder in folders], [LEARNING_SEED, CAMERA_SEED]
    return json.dumps([weights, [str(plan) for plan in plans], str(dtype), names, seeds, what])
