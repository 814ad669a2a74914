"""grainwise denoise."""

from typing import TYPE_CHECKING, Annotated

import typer

from grainwise.cli.common import Common, with_common

if TYPE_CHECKING:
    from grainwise.runtime.blind import BlindDenoiser
    from grainwise.runtime.denoiser import Denoiser


@with_common("default")
def denoise(
    common: Common,
    strength: Annotated[
        float,
        typer.Option(
            help="0 to 2: multiplies the noise level; 0 changes nothing. For a model that is told no level, 0 to 1: how much "
            "of the result is mixed into the picture."
        ),
    ] = 1.0,
    sigma: Annotated[float | None, typer.Option(help="Noise level, 0 to 75 (of 255); estimated by default.")] = None,
    level: Annotated[
        float | None,
        typer.Option(
            help="For a model whose kernels depend on the noise level: the level of the kernels by hand, 0 to 75 (of 255). "
            "Without --sigma it stands for that too."
        ),
    ] = None,
) -> int:
    """Remove the noise of pictures. Depth, alpha, ICC, EXIF and XMP stay as they are."""
    from grainwise.cli.all_files import restore_files
    from grainwise.cli.restorers import find_denoiser
    from grainwise.cli.tasks import BlindDenoising, Denoising
    from grainwise.core.errors import InputError
    from grainwise.runtime.blind import BlindDenoiser

    def load(common: Common) -> "Denoiser | BlindDenoiser":
        return find_denoiser(common.model, device=common.device, dtype=common.dtype, max_memory=common.max_memory)

    def task(denoiser: "Denoiser | BlindDenoiser") -> Denoising | BlindDenoising:
        given = (("--sigma", sigma), ("--level", level))
        if isinstance(denoiser, BlindDenoiser):
            for name, value in given:
                if value is not None:
                    raise InputError(f"the model {denoiser.weights.name} is told no noise level; leave {name} out")
            return BlindDenoising(denoiser, strength=strength)
        facts = denoiser.network.facts
        highest = round(255 * facts.sigma_max)
        for name, value in given:
            if value is not None and not 0 <= value <= highest:
                raise InputError(f"{name} is the noise level times 255, from 0 to {highest}, got {value:g}")
        if level is not None and facts.level_range is None:
            raise InputError(
                f"the kernels of the model {denoiser.weights.name} are the same at every level; leave --level out, and give "
                "the noise level with --sigma"
            )
        by_255 = [None if value is None else value / 255 for value in (sigma, level)]
        return Denoising(denoiser, strength=strength, sigma=by_255[0], level=by_255[1])

    if not 0 <= strength <= 2:
        raise InputError(f"--strength lies in 0 to 2, got {strength:g}")
    return restore_files(load, task, common)
