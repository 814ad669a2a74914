"""What the commands for picture files differ in: what a restorer is asked, and what is told of the result."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from grainwise.core.errors import InputError
from grainwise.core.jpeg_tables import quality_of_file
from grainwise.core.picture_rows import PictureInfo
from grainwise.core.pictures import Picture
from grainwise.runtime.blind import BlindDenoiser, BlindRestoration
from grainwise.runtime.denoiser import Denoiser
from grainwise.runtime.forecast import Forecast
from grainwise.runtime.jpeg_restorer import JpegRestorer, asks_pixels
from grainwise.runtime.restoration import Account, Restoration
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.upscaler import Upscaler, enlarge_plainly

Asked = dict[str, Any]
"""Arguments of a restorer's call."""


class FileTask(ABC):
    """One command's way with a picture file.

    Attributes:
        restorer: does the work.
        how: what the file's Software tag says of the settings.
        hint: what to do where nothing was done.
    """

    restorer: Restorer | BlindDenoiser
    how: str
    hint: ClassVar[str] = ""

    @abstractmethod
    def asked(self, info: PictureInfo) -> Asked:
        """What the restorer is asked for this file."""

    def result_of(self, info: PictureInfo) -> PictureInfo:
        """The file's header with the size of the result."""
        return info

    def reads_twice(self, asked: Asked) -> bool:
        """Whether a picture that goes in rows is read for a blind estimate first."""
        return False

    @abstractmethod
    def forecast(self, info: PictureInfo, asked: Asked, held: int, in_rows: bool, **more: Any) -> Forecast:
        """What the picture will take; see `Denoiser.forecast`."""

    @abstractmethod
    def restore(self, picture: Picture, **asked: Any) -> tuple[Restoration, Picture]:
        """The result, and the picture whose alpha and metadata it takes."""

    @abstractmethod
    def restore_rows(self, info: PictureInfo, write: Callable[..., None], **asked: Any) -> Account:
        """See `Denoiser.restore_rows`."""

    @abstractmethod
    def told(self, account: Account, asked: Asked) -> dict[str, Any]:
        """What ``--json`` tells of the degradation."""

    @abstractmethod
    def words(self, line: dict[str, Any]) -> str | None:
        """The degradation in a few words; None where nothing was done, and `hint` says why."""


class _SameSize(FileTask):
    """Denoising and JPEG artifacts: a file's result has its size."""

    restorer: Denoiser | JpegRestorer

    def forecast(self, info: PictureInfo, asked: Asked, held: int, in_rows: bool, **more: Any) -> Forecast:
        row_bytes = info.row_bytes if in_rows else 0
        return self.restorer.forecast((info.height, info.width), held, **asked, **more, row_bytes=row_bytes)

    def restore(self, picture: Picture, **asked: Any) -> tuple[Restoration, Picture]:
        return self.restorer.restore(picture.pixels, **asked), picture

    def restore_rows(self, info: PictureInfo, write: Callable[..., None], **asked: Any) -> Account:
        return self.restorer.restore_rows(info, write, **asked)


class Denoising(_SameSize):
    """``grainwise denoise``; sigma and level are in image units."""

    hint: ClassVar[str] = (
        "no noise found that can be told from the picture; if there is some, give its level: --sigma 5"
    )

    def __init__(self, denoiser: Denoiser, *, strength: float, sigma: float | None, level: float | None) -> None:
        """Keep what the user asked for."""
        self.restorer = denoiser
        self._asked: Asked = {"strength": strength, "sigma": sigma, "level": level}
        self.how = f"strength {strength:g}"

    def asked(self, info: PictureInfo) -> Asked:
        """The same for all files."""
        return self._asked

    def reads_twice(self, asked: Asked) -> bool:
        """Where the noise level is estimated."""
        return asked["sigma"] is None and asked["level"] is None and asked["strength"] > 0

    def told(self, account: Account, asked: Asked) -> dict[str, Any]:
        """The noise level."""
        return {"sigma": 255 * account.sigma, "noise_found": account.found}

    def words(self, line: dict[str, Any]) -> str | None:
        """The noise level."""
        return f"sigma {line['sigma']:.1f}" if line["noise_found"] else None


class BlindDenoising(FileTask):
    """``grainwise denoise`` with a model that is told no noise level, with a gate or without: pictures go through it whole."""

    restorer: BlindDenoiser
    hint: ClassVar[str] = "strength 0 changes nothing"

    def __init__(self, denoiser: BlindDenoiser, *, strength: float) -> None:
        """Keep what the user asked for.

        Raises:
            InputError: the strength is not one of a mixture.
        """
        denoiser.check_strength(strength)
        self.restorer, self._asked = denoiser, {"strength": strength}
        self.how = f"strength {strength:g}"

    def asked(self, info: PictureInfo) -> Asked:
        """The same for all files."""
        return self._asked

    def forecast(self, info: PictureInfo, asked: Asked, held: int, in_rows: bool, **more: Any) -> Forecast:
        """See `BlindDenoiser.forecast`; there is no time limit, and what goes on beside the network counts in none."""
        return self.restorer.forecast((info.height, info.width), held, **asked)

    def restore(self, picture: Picture, *, max_seconds: None = None, **asked: Any) -> tuple[BlindRestoration, Picture]:
        """See `BlindDenoiser.restore`."""
        return self.restorer.restore(picture.pixels, **asked), picture

    def restore_rows(self, info: PictureInfo, write: Callable[..., None], **asked: Any) -> Account:
        """None goes in rows: see `Placed`."""
        raise InputError(f"{self.restorer.weights.name} sees {info.path} whole, and restores none in strips")

    def told(self, account: Account, asked: Asked) -> dict[str, Any]:
        """That no level was told, whether a gate chose, and its seconds."""
        assert isinstance(account, BlindRestoration)
        return {"sigma": None, "gate": self.restorer.gated, "seconds_gate": account.seconds_gate}

    def words(self, line: dict[str, Any]) -> str | None:
        """The plan, and whether a gate chose it."""
        if not line["plans"]:
            return None
        return f"blind, plan {line['plan']}{' chosen by the gate' if line['gate'] else ''}"


class Dejpeg(_SameSize):
    """``grainwise dejpeg``: the quality by hand, from the file's tables, or from the pixels."""

    hint: ClassVar[str] = (
        "no trace of JPEG found in the pixels; if there is one, give the quality that it was saved at: --level 40"
    )

    def __init__(self, restorer: JpegRestorer, *, quality: float | None) -> None:
        """Keep what the user asked for."""
        self.restorer, self._quality = restorer, quality
        self.how = "JPEG artifacts"

    def asked(self, info: PictureInfo) -> Asked:
        """The quality by hand, or that of the file's tables."""
        by_hand = self._quality is not None
        by_file = quality_of_file(info.path) if info.format == "jpeg" and not by_hand else None
        return {"quality": self._quality, "quality_of_file": None if by_file is None else float(by_file.quality)}

    def reads_twice(self, asked: Asked) -> bool:
        """Where the quality is told from the pixels."""
        return asks_pixels(asked["quality"], asked["quality_of_file"])

    def told(self, account: Account, asked: Asked) -> dict[str, Any]:
        """The quality, and who says so."""
        source = "given" if self._quality is not None else "file" if account.estimate is None else "pixels"
        return {
            "quality": account.level,
            "quality_from": source,
            "quality_of_file": asked["quality_of_file"],
            "artifacts_found": account.found,
        }

    def words(self, line: dict[str, Any]) -> str | None:
        """The quality, and who says so."""
        source = {"given": "as given", "file": "by the file's tables", "pixels": "by its pixels"}[line["quality_from"]]
        again = ""
        if line["quality_from"] == "pixels" and line["quality_of_file"] is not None:
            again = f" (saved again at {line['quality_of_file']:g})"
        return f"JPEG quality {line['quality']:g} {source}{again}" if line["artifacts_found"] else None


class Upscaling(FileTask):
    """``grainwise upscale``."""

    restorer: Upscaler

    def __init__(self, upscaler: Upscaler, *, scale: float) -> None:
        """Keep what the user asked for.

        Raises:
            InputError: the network was not taught the scale.
        """
        upscaler.check_scale(scale)
        self.restorer, self._scale = upscaler, scale
        self.how = f"scale {scale:g}"

    def asked(self, info: PictureInfo) -> Asked:
        """The scale."""
        return {"scale": self._scale}

    def result_of(self, info: PictureInfo) -> PictureInfo:
        """The enlarged size."""
        height, width = self.restorer.size_of((info.height, info.width), self._scale)
        return replace(info, height=height, width=width)

    def forecast(self, info: PictureInfo, asked: Asked, held: int, in_rows: bool, **more: Any) -> Forecast:
        """See `Upscaler.forecast`."""
        return self.restorer.forecast((info.height, info.width), held, **asked, **more, bands=info.bands)

    def restore(self, picture: Picture, **asked: Any) -> tuple[Restoration, Picture]:
        """The enlarged picture, and a copy of the file's with its alpha enlarged."""
        result = self.restorer.restore(picture.pixels, **asked)
        if picture.alpha is None:
            return result, picture
        alpha = enlarge_plainly(picture.alpha[..., None], self._scale)[..., 0]
        return result, replace(picture, alpha=alpha)  # type: ignore[arg-type]

    def restore_rows(self, info: PictureInfo, write: Callable[..., None], **asked: Any) -> Account:
        """See `Upscaler.restore_rows`."""
        return self.restorer.restore_rows(info, write, **asked)

    def told(self, account: Account, asked: Asked) -> dict[str, Any]:
        """The scale."""
        return {"scale": account.level}

    def words(self, line: dict[str, Any]) -> str | None:
        """The scale and the size."""
        return f"x{line['scale']:g} to {line['width']}x{line['height']}"
