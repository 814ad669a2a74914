"""A corpus: folders of pictures, decoded once into one memory-mapped file of 8-bit RGB, at one or more reductions.

Reducing a picture by 2x2 means removes its own noise and compression, and makes it more textured per pixel.
The folder of a corpus holds `pixels.bin` and `index.json`; nothing else is needed to train from it, on any machine.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grainwise.core.errors import InputError, TrainingError
from grainwise.core.files import whole_file

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture at one reduction: where its pixels lie in the file, its size, and how it came about."""

    name: str
    reduction: int
    offset: int
    height: int
    width: int


@dataclass(frozen=True)
class Corpus:
    """Pictures in one memory-mapped array."""

    pixels: np.ndarray
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        """The number of pictures, each reduction counted."""
        return len(self.entries)

    def picture(self, index: int) -> np.ndarray:
        """Picture ``index`` as [H, W, 3] uint8, a read-only view."""
        entry = self.entries[index]
        size = entry.height * entry.width * 3
        view: np.ndarray = self.pixels[entry.offset : entry.offset + size]
        return view.reshape(entry.height, entry.width, 3)

    def split(self, every: int) -> tuple["Corpus", "Corpus"]:
        """(the rest, held out): every ``every``-th picture by name is held out, with all its reductions."""
        names = sorted({entry.name for entry in self.entries})
        held = set(names[::every])
        rest = tuple(entry for entry in self.entries if entry.name not in held)
        return Corpus(self.pixels, rest), Corpus(self.pixels, tuple(e for e in self.entries if e.name in held))

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """Open a built corpus.

        Raises:
            TrainingError: the folder holds no corpus, or a damaged one.
        """
        try:
            index = json.loads((folder / "index.json").read_text())
            entries = tuple(Entry(**entry) for entry in index["entries"])
            pixels = np.memmap(folder / "pixels.bin", np.uint8, "r")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{folder} holds no usable corpus ({error}); delete it and build it again") from None
        if index.get("format") != FORMAT or sum(e.height * e.width * 3 for e in entries) != pixels.size:
            raise TrainingError(
                f"the corpus in {folder} is damaged or of another version; delete it and build it again"
            )
        return cls(pixels, entries)


def corpus_of(
    folders: Sequence[Path],
    cache: Path,
    *,
    reductions: Sequence[int] = (1, 2),
    smallest: int = 128,
    progress: Callable[[int, int], object] | None = None,
) -> Corpus:
    """The corpus of all pictures in ``folders``, from ``cache`` where it was built before.

    Args:
        folders: searched with all their sub-folders.
        cache: the folder that keeps corpora, one sub-folder for each set of files and reductions.
        reductions: 1 for the picture as it is, 2 for 2x2 means, and so on.
        smallest: pictures with a side under this many pixels are left out, at each reduction.
        progress: called with (pictures done, all pictures).

    Raises:
        InputError: a folder is missing, or no picture is large enough.
    """
    from grainwise.core.pictures import picture_paths

    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing or not folders:
        raise InputError(f"training needs folders of pictures; not a folder: {', '.join(missing) or 'none was given'}")
    paths = [path for folder in folders for path in picture_paths(folder)]
    key = [FORMAT, list(reductions), smallest, [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in paths]]
    folder = cache / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    if not (folder / "index.json").is_file():
        _build(paths, folder, reductions, smallest, progress)
    return Corpus.open(folder)


def _build(
    paths: Sequence[Path],
    folder: Path,
    reductions: Sequence[int],
    smallest: int,
    progress: Callable[[int, int], object] | None,
) -> None:
    entries: list[Entry] = []
    offset = 0
    with whole_file(folder / "pixels.bin") as temporary:
        with temporary.open("wb") as file:
            for done, path in enumerate(paths, 1):
                picture = _rgb8(path)
                for reduction in reductions:
                    reduced = reduce_by_mean(picture, reduction)
                    height, width, _ = reduced.shape
                    if min(height, width) >= smallest:
                        entries.append(Entry(path.stem, reduction, offset, height, width))
                        file.write(reduced.tobytes())
                        offset += reduced.size
                if progress is not None:
                    progress(done, len(paths))
        if not entries:
            raise InputError(f"none of the {len(paths)} pictures found has both sides of at least {smallest} pixels")
    index = {"format": FORMAT, "entries": [{s: getattr(e, s) for s in Entry.__slots__} for e in entries]}
    with whole_file(folder / "index.json") as temporary:
        temporary.write_text(json.dumps(index))


def _rgb8(path: Path) -> np.ndarray:
    from grainwise.core.pictures import read_picture

    pixels = read_picture(path).pixels
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    colour: np.ndarray = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    return colour


def reduce_by_mean(picture: np.ndarray, factor: int) -> np.ndarray:
    """Means of ``factor`` x ``factor`` pixels of [H, W, C] uint8, rounded; an incomplete last row or column is left out."""
    if factor == 1:
        return picture
    height, width, channels = (picture.shape[0] // factor, picture.shape[1] // factor, picture.shape[2])
    blocks = picture[: height * factor, : width * factor].reshape(height, factor, width, factor, channels)
    means: np.ndarray = np.rint(blocks.mean((1, 3), dtype=np.float32)).astype(np.uint8)
    return means
