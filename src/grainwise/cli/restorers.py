"""What `evaluate` and `bench` share: folders of pictures, and a denoiser as a method under test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from grainwise.runtime.denoiser import Denoiser

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
