"""A corpus: folders of pictures, or of pairs, decoded once into one memory-mapped file of 8-bit RGB, at one or more
reductions.

Reducing a picture by 2x2 means removes its own noise and compression, and makes it more textured per pixel.
The folder of a corpus holds `pixels.bin` and `index.json`; nothing else is needed to train from it, on any machine.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from grainwise.core.errors import InputError, TrainingError
from grainwise.core.files import whole_file

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture or pair at one reduction: where its pixels lie in the file, its size, and how it came about.

    What has one name is held out together: the reductions of a picture, the pairs of a scene.
    """

    name: str
    reduction: int
    offset: int
    height: int
    width: int


@dataclass(frozen=True)
class Corpus:
    """Pictures in one memory-mapped array.

    Args:
        pixels: all of them, one behind the other.
        entries: where they lie.
        channels: 3, or 6 for pairs: noisy RGB, then clean RGB.
    """

    pixels: np.ndarray
    entries: tuple[Entry, ...]
    channels: int = 3

    def __len__(self) -> int:
        """The number of pictures, each reduction counted."""
        return len(self.entries)

    def picture(self, index: int) -> np.ndarray:
        """Picture ``index`` as [H, W, channels] uint8, a read-only view."""
        entry = self.entries[index]
        size = entry.height * entry.width * self.channels
        view: np.ndarray = self.pixels[entry.offset : entry.offset + size]
        return view.reshape(entry.height, entry.width, self.channels)

    def split(self, every: int) -> tuple["Corpus", "Corpus"]:
        """(the rest, held out): every ``every``-th name is held out, with all that has it.

        Raises:
            InputError: there is one name only, and nothing would be left to train on.
        """
        names = sorted({entry.name for entry in self.entries})
        held = set(names[::every])
        if len(held) == len(names):
            remedy = "give pictures of more scenes" if len(names) == 1 else "give a greater hold_out"
            raise InputError(
                f"one of every {every} pictures or scenes is to be held out, and of {len(names)} none is left to train on; "
                f"{remedy}"
            )
        rest = tuple(entry for entry in self.entries if entry.name not in held)
        return replace(self, entries=rest), replace(self, entries=tuple(e for e in self.entries if e.name in held))

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """Open a built corpus.

        Raises:
            TrainingError: the folder holds no corpus, or a damaged one.
        """
        try:
            index = json.loads((folder / "index.json").read_text())
            entries = tuple(Entry(**entry) for entry in index["entries"])
            channels = int(index.get("channels", 3))
            pixels = np.memmap(folder / "pixels.bin", np.uint8, "r")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{folder} holds no usable corpus ({error}); delete it and build it again") from None
        if index.get("format") != FORMAT or sum(e.height * e.width * channels for e in entries) != pixels.size:
            raise TrainingError(
                f"the corpus in {folder} is damaged or of another version; delete it and build it again"
            )
        return cls(pixels, entries, channels)


def corpus_of(
    folders: Sequence[Path],
    cache: Path,
    *,
    reductions: Sequence[int] = (1, 2),
    smallest: int = 128,
    paired: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Corpus:
    """The corpus of all pictures in ``folders``, from ``cache`` where it was built before.

    Args:
        folders: searched with all their sub-folders.
        cache: the folder that keeps corpora, one sub-folder for each set of files and reductions.
        reductions: 1 for the picture as it is, 2 for 2x2 means, and so on.
        smallest: pictures with a side under this many pixels are left out, at each reduction.
        paired: the folders hold pairs of a noisy and a clean picture, see `grainwise.data.sidd.training_pairs`.
        progress: called with (pictures done, all pictures).

    Raises:
        InputError: a folder is missing, no picture is large enough, or a pair is not whole.
    """
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing or not folders:
        raise InputError(f"training needs folders of pictures; not a folder: {', '.join(missing) or 'none was given'}")
    sources = [source for folder in folders for source in (_pairs_in(folder) if paired else _pictures_in(folder))]
    paths = [path for source in sources for path in source.files]
    key = [FORMAT, list(reductions), smallest, [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in paths]]
    if paired:
        key.append("pairs")
    folder = cache / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    if not (folder / "index.json").is_file():
        _build(sources, folder, reductions, smallest, progress)
    return Corpus.open(folder)


class _Source(NamedTuple):
    """What becomes one entry at each reduction: a picture, or the two of a pair."""

    name: str
    files: tuple[Path, ...]


def _pictures_in(folder: Path) -> list[_Source]:
    from grainwise.core.pictures import picture_paths

    return [_Source(path.stem, (path,)) for path in picture_paths(folder)]


def _pairs_in(folder: Path) -> list[_Source]:
    from grainwise.data.sidd import training_pairs

    return [_Source(scene, (noisy, clean)) for scene, noisy, clean in training_pairs(folder)]


def _build(
    sources: Sequence[_Source],
    folder: Path,
    reductions: Sequence[int],
    smallest: int,
    progress: Callable[[int, int], object] | None,
) -> None:
    entries: list[Entry] = []
    offset = 0
    with whole_file(folder / "pixels.bin") as temporary:
        with temporary.open("wb") as file:
            for done, source in enumerate(sources, 1):
                picture = _decoded(source)
                for reduction in reductions:
                    reduced = reduce_by_mean(picture, reduction)
                    height, width, _ = reduced.shape
                    if min(height, width) >= smallest:
                        entries.append(Entry(source.name, reduction, offset, height, width))
                        file.write(reduced.tobytes())
                        offset += reduced.size
                if progress is not None:
                    progress(done, len(sources))
        if not entries:
            raise InputError(f"none of the {len(sources)} pictures found has both sides of at least {smallest} pixels")
    channels = 3 * len(sources[0].files)
    index = {
        "format": FORMAT,
        "channels": channels,
        "entries": [{s: getattr(e, s) for s in Entry.__slots__} for e in entries],
    }
    with whole_file(folder / "index.json") as temporary:
        temporary.write_text(json.dumps(index))


def _decoded(source: _Source) -> np.ndarray:
    """[H, W, 3 or 6] uint8.

    Raises:
        InputError: the pictures of a pair differ in size.
    """
    pictures = [_rgb8(path) for path in source.files]
    sizes = {picture.shape for picture in pictures}
    if len(sizes) > 1:
        raise InputError(f"{source.files[0]} and {source.files[1]} are a pair and differ in size: {sorted(sizes)}")
    return pictures[0] if len(pictures) == 1 else np.concatenate(pictures, 2)


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
