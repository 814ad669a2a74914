"""From the arguments of a command to pairs of input and output files."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grainwise.core.errors import GrainwiseError, InputError
from grainwise.core.pictures import SUFFIXES, picture_paths, target_format

OTHERS = frozenset((
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".pgm", ".ppm", ".psd",
    ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw",
))  # fmt: skip
"""Suffixes of pictures that we cannot read, raw ones too: what a person would look for in the output."""


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to read and where to write it."""

    source: Path
    target: Path


def sources_of(inputs: Sequence[str], leave_out: Path | None = None) -> list[tuple[Path, Path]]:
    """(picture, its path below the output folder): files, globs and folders, the latter searched with all sub-folders.

    What lies in the folder ``leave_out`` is not searched for, so that output inside of the input is no input next time.

    Raises:
        InputError: an input is not there, or a glob or folder holds no picture.
    """
    found: list[tuple[Path, Path]] = []
    for text in inputs:
        path = Path(text)
        if not text:
            raise InputError("an input is a file, a glob or a folder, got an empty text")
        if path.is_dir():
            own = None if leave_out is None or leave_out.resolve() == path.resolve() else leave_out.resolve()
            pictures = [
                (picture, picture.relative_to(path))
                for picture in picture_paths(path)
                if own is None or (own not in picture.parent.resolve().parents and own != picture.parent.resolve())
            ]
            if not pictures:
                raise InputError(f"the folder {text} holds no picture ({', '.join(SUFFIXES)})")
            found += pictures
        elif path.is_file():
            found.append((path, Path(path.name)))
        elif path.exists():
            raise InputError(f"{text} is neither a file nor a folder")
        elif glob.has_magic(text):
            matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
            matches = [match for match in matches if match.is_file() and match.suffix.lower() in SUFFIXES]
            if not matches:
                raise InputError(f"no picture matches {text}")
            found += [(match, Path(match.name)) for match in matches]
        else:
            raise InputError(f"there is no file or folder {text}; check the path")
    return list(dict.fromkeys(found))


def left_out(inputs: Sequence[str]) -> str:
    """How many pictures of other kinds the folders among ``inputs`` hold, in words; empty where there are none."""
    kinds = Counter(
        path.suffix.lower()
        for folder in map(Path, inputs)
        if folder.is_dir()
        for path in folder.rglob("*")
        if path.suffix.lower() in OTHERS and os.path.isfile(path)
    )
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def plan_jobs(inputs: Sequence[str], out: Path) -> list[Job]:
    """Where each picture goes: ``out`` itself for one file, unless it is a folder; below ``out`` for several.

    Raises:
        InputError: two pictures would be written to one file, or one over a picture that is read.
    """
    if str(out) == "-":
        raise InputError(
            "pictures are written to files, not to standard output: name one with -o; ./- is a file named -"
        )
    sources = sources_of(inputs, leave_out=out)
    single = len(sources) == 1 and not Path(inputs[0]).is_dir()
    into_folder = out.is_dir() or not single or out.suffix.lower() not in SUFFIXES
    if not into_folder:
        jobs = [Job(sources[0][0], out)]
    elif single and out.suffix and not out.is_dir():
        raise InputError(f"cannot write {out}: the suffix decides the format; it is one of {', '.join(SUFFIXES)}")
    elif out.is_file() or (not single and not out.is_dir() and out.suffix.lower() in SUFFIXES):
        raise InputError(f"several pictures are written into a folder, and {out} names a file; name a folder with -o")
    else:
        jobs = [Job(source, out / below) for source, below in sources]
    targets: dict[str, Path] = {}
    read = {os.path.realpath(job.source) for job in jobs}
    for job in jobs:
        target = os.path.realpath(job.target)
        if target in read:
            raise InputError(f"{job.target} is read as well as written; write into another folder")
        if target in targets:
            raise InputError(f"{job.source} and {targets[target]} would both be written to {job.target}")
        targets[target] = job.source
    return jobs


def check_route_map(path: Path, jobs: Sequence[Job], *, dry_run: bool, skip_existing: bool) -> None:
    """Refuse a map of routes that belongs to no picture, or that is written over one.

    Raises:
        InputError: there are several pictures, or none is written, or perhaps none; the map is read or written already, or
            is a folder.
        PictureError: its suffix names no format.
    """
    if len(jobs) != 1:
        raise InputError(
            f"--route-map is the map of one picture, and there are {len(jobs)}; give one, or --json, which tells all routes"
        )
    if dry_run:
        raise InputError("--route-map shows how a picture was made, and --dry-run makes none; leave one of them out")
    if skip_existing:
        raise InputError(
            "--route-map shows how a picture was made, and --skip-existing may make none; leave one of them out"
        )
    target_format(path)
    if path.is_dir():
        raise InputError(
            f"--route-map names a file, and {path} is a folder; name a picture in it, such as {path}/map.png"
        )
    if os.path.realpath(path) in (os.path.realpath(jobs[0].source), os.path.realpath(jobs[0].target)):
        raise InputError(
            f"--route-map would be written over {path}, which is read or written already; name another file"
        )


def named(source: Path, error: GrainwiseError) -> str:
    """The words of an error of one picture of several, on one line, which name the picture."""
    words = " ".join(str(error).split())
    return words if str(source) in words else f"{source}: {words}"
