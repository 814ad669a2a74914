"""One picture from file to file: what it will take, which way it goes, and what it took."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from grainwise import __version__
from grainwise.cli.beside import Beside
from grainwise.cli.paths import Job
from grainwise.cli.tasks import Asked, FileTask
from grainwise.core.errors import InputError
from grainwise.core.picture_formats import Format
from grainwise.core.picture_rows import PictureInfo, check_rows_target, read_info, writing_rows
from grainwise.core.pictures import (
    Picture,
    Samples,
    check_target,
    check_writable,
    target_format,
    write_picture,
)
from grainwise.runtime.forecast import Forecast
from grainwise.runtime.restoration import Account
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.route_map import RouteMap

COMFORTABLE_SIDE = 256
"""A picture that fits into memory, but leaves no room for tiles of this side, is restored in strips all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user asked for, of all commands alike; see ``grainwise denoise --help``."""

    budget: str | None
    max_seconds: float | None
    quality: int
    strip_metadata: bool
    route_map: Path | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How one picture goes: what its file says, whether in rows, and what is expected of it.

    Attributes:
        info: of the source file.
        result: the same with the size of the result.
        asked: arguments of the restorer's call.
        in_rows: whether it is read, restored and written in strips.
        forecast: of the restorer.
        read, write: seconds that the files are expected to take; None where the machine was not measured.
    """

    info: PictureInfo
    result: PictureInfo
    asked: Asked
    in_rows: bool
    forecast: Forecast
    read: float | None
    write: float | None

    @property
    def seconds(self) -> float | None:
        """What the picture is expected to take, its files included; None where the machine was not measured."""
        if self.forecast.seconds is None or self.read is None or self.write is None:
            return None
        return self.forecast.seconds + self.read + self.write


class FileRestorer:
    """Restores picture files: a command's task with the user's settings."""

    def __init__(self, task: FileTask, settings: Settings) -> None:
        """Keep both; where there is a time limit, measure the machine unless it was measured before.

        Raises:
            InputError: a time limit for a model that sees pictures whole.
        """
        self.task, self.settings, self.restorer = task, settings, task.restorer
        self._tiled = task.restorer if isinstance(task.restorer, Restorer) else None
        if settings.max_seconds is not None:
            if self._tiled is None:
                raise InputError(
                    f"the model {self.restorer.weights.name} sees a picture whole, and no time limit can be kept in the "
                    "middle of it; leave --max-seconds out"
                )
            self._tiled.measured_costs()

    def way(self, job: Job) -> Way:
        """Decide how a picture goes.

        Raises:
            PictureError: a file that cannot be read, a format that cannot hold the result, or cannot be written in rows where
                it must be.
            InputError: it takes more memory than is allowed.
            BudgetError: it takes more time than is allowed.
        """
        info = read_info(job.source)
        result, asked, target = self.task.result_of(info), self.task.asked(info), target_format(job.target)
        check_target(job.target, target, (result.height, result.width), result.alpha)
        in_rows = self._must_go_in_rows(info, result, job.target)
        passes = 2 if in_rows and self.task.reads_twice(asked) else 1
        read = self._file_seconds(info, info.format, "read")
        write = self._file_seconds(result, target, "write")
        forecast = self.task.forecast(
            info,
            {"budget": self.settings.budget, **asked},
            0 if in_rows else info.nbytes + result.nbytes,
            in_rows,
            max_seconds=self.settings.max_seconds,
            along=passes * (read or 0.0) + (write or 0.0),
        )
        return Way(info, result, asked, in_rows, forecast, None if read is None else passes * read, write)

    def restore(
        self, job: Job, way: Way, progress: Callable[[float], object], beside: Beside, after: Path | None = None
    ) -> Callable[[], dict[str, Any]]:
        """Restore a picture the way that was decided; what is given back writes it, and tells what all took.

        Args:
            job, way: the picture.
            progress: see `grainwise.Denoiser.restore`.
            beside: reads pictures.
            after: the picture that comes next, to be read meanwhile.

        Raises:
            PictureError: a file that cannot be read; or one that cannot be written, the map too, told before the work.
        """
        for path in filter(None, (job.target, self.settings.route_map)):
            check_writable(path)
        start, shown = time.perf_counter(), None
        if self.settings.route_map is not None:
            shown = RouteMap(way.result.height, way.result.width)
        if way.in_rows:
            beside.drop(job.source)
            account = self._in_rows(job, way, progress, start, shown)
            gone = time.perf_counter() - start
            return lambda: self._told(way, account, shown, gone)
        picture = beside.read(job.source)
        read = time.perf_counter() - start
        if after is not None:
            beside.read_ahead(after)
        left = self._left(way, read, way.write or 0.0)
        result, like = self.task.restore(picture, progress=progress, max_seconds=left, **self._asked(way))
        restored = time.perf_counter() - start

        def finish() -> dict[str, Any]:
            begun = time.perf_counter()
            write_picture(
                job.target,
                result.image,  # type: ignore[arg-type]
                like,
                provenance=self._provenance(result.plans) if result.plans else None,
                quality=self.settings.quality,
                strip_metadata=self.settings.strip_metadata,
            )
            write = time.perf_counter() - begun
            if shown is not None:
                shown.add(result.image)  # type: ignore[arg-type]
            return self._told(way, result, shown, restored + write, read, write)

        return finish

    def _told(
        self,
        way: Way,
        account: Account,
        shown: RouteMap | None,
        seconds: float,
        read: float | None = None,
        write: float | None = None,
    ) -> dict[str, Any]:
        """What a picture took; the map is written."""
        if shown is not None:
            self._write_map(shown, account)
        megapixels = way.result.height * way.result.width / 1e6
        return {
            **self.task.told(account, way.asked),
            "width": way.result.width,
            "height": way.result.height,
            "plan": str(account.plan),
            "plans": {str(plan): tiles for plan, tiles in account.plans.items()},
            "macs_per_pixel": account.macs_per_pixel,
            "tiles": account.tiles,
            "routes": [route.to_json() for route in account.routes],
            "in_rows": way.in_rows,
            "megapixels": megapixels,
            "seconds": seconds,
            "seconds_predicted": way.seconds,
            "seconds_read": read,
            "seconds_estimate": account.seconds_estimate,
            "seconds_network": seconds - (read or 0.0) - (write or 0.0) - account.seconds_estimate,
            "seconds_write": write,
            "megapixels_per_second": megapixels / seconds,
            **self._machine(),
        }

    def foretell(self, way: Way) -> dict[str, Any]:
        """Tell what a picture will take."""
        forecast, costs = way.forecast, self.restorer.known_costs()
        return {
            "plan": None if forecast.plan is None else str(forecast.plan),
            "macs_per_pixel": forecast.macs_per_pixel,
            "tiles": forecast.tiles,
            "in_rows": way.in_rows,
            "megapixels": way.result.height * way.result.width / 1e6,
            "seconds_predicted": way.seconds,
            "seconds_predicted_read": way.read,
            "seconds_predicted_estimate": forecast.seconds_estimate,
            "seconds_predicted_network": forecast.seconds_network,
            "seconds_predicted_write": way.write,
            "calibration_age_seconds": None if costs is None else costs.age(),
            "memory_predicted_mb": forecast.memory / 2**20,
            **self._machine(),
        }

    def _in_rows(
        self, job: Job, way: Way, progress: Callable[[float], object], start: float, shown: RouteMap | None
    ) -> Account:
        """Reading and writing go on beside the network, and are not told apart from it."""
        limit = self.settings.max_seconds
        passes = 2 if self.task.reads_twice(way.asked) else 1
        along = (way.read or 0.0) / passes + (way.write or 0.0)
        with writing_rows(
            job.target,
            way.result,
            provenance=self._provenance([way.forecast.plan] if limit is None else [f"within {limit:g} s"]),
            quality=self.settings.quality,
            strip_metadata=self.settings.strip_metadata,
        ) as write:
            left = self._left(way, time.perf_counter() - start, 0.0, along)
            account = self.task.restore_rows(
                way.info,
                write if shown is None else _also(write, shown, way.result.channels),
                progress=progress,
                max_seconds=left,
                along=along,
                **self._asked(way),
            )
        return account

    def _write_map(self, shown: RouteMap, account: Account) -> None:
        assert self.settings.route_map is not None
        names = {measured.plan: measured.name for measured in self.restorer.weights.card.plans}
        drawn = shown.draw(account.routes, names)
        write_picture(self.settings.route_map, drawn, Picture(drawn))

    def _left(self, way: Way, gone: float, kept: float, along: float = 0.0) -> float | None:
        """What is left of the time limit; never less than the fastest plan takes: the limit was accepted."""
        limit, least = self.settings.max_seconds, way.forecast.least_seconds
        return None if limit is None or least is None else max(limit - gone - kept, least + along)

    def _asked(self, way: Way) -> Asked:
        return {"budget": self.settings.budget, **way.asked}

    def _must_go_in_rows(self, info: PictureInfo, result: PictureInfo, target: Path) -> bool:
        size, held, timed = (
            (result.height, result.width),
            info.nbytes + result.nbytes,
            self.settings.max_seconds is not None,
        )
        if self._tiled is None:
            return False
        missing, uncomfortable = (
            self._tiled.missing_bytes(size, held, self.settings.budget, timed=timed, side=side)
            for side in (0, COMFORTABLE_SIDE)
        )
        if uncomfortable <= 0:
            return False
        if info.in_rows and (missing > 0 or target_format(target) != "webp"):
            check_rows_target(target, result)
            return True
        if missing > 0:
            raise InputError(
                f"cannot restore {info.path} in the memory allowed: a {info.format} picture of {info.width}x{info.height} "
                f"pixels is held whole; allow at least {-(-missing // 2**20)} MB more, or convert it to TIFF"
            )
        return False

    def _file_seconds(self, info: PictureInfo, format: Format, step: Literal["read", "write"]) -> float | None:
        costs = self.restorer.known_costs()
        if costs is None:
            return None
        shallow = step == "write" and format in ("jpeg", "webp")
        nbytes = info.height * info.width * info.bands if shallow else info.nbytes
        cost = costs.files[format]
        return nbytes * (cost.read if step == "read" else cost.write)

    def _provenance(self, plans: Iterable[object]) -> str:
        made = f"grainwise {__version__}, model {self.restorer.weights.name}"
        return f"{made}, plan {' and '.join(map(str, plans))}, {self.task.how}"

    def _machine(self) -> dict[str, str]:
        return {"device": str(self.restorer.device), "dtype": str(self.restorer.dtype).removeprefix("torch.")}


def _also(write: Callable[[Samples], None], shown: RouteMap, channels: int) -> Callable[[Samples], None]:
    """Write rows, and show them without alpha."""

    def both(rows: Samples) -> None:
        write(rows)
        shown.add(rows[..., :channels])

    return both
