"""Deep network interpolation (Wang et al., CVPR 2019): between two trainings of one network, every weight on a line."""

from collections.abc import Mapping

from torch import Tensor

from grainwise.core.errors import InputError


def interpolated(first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) * first + share * second, weight by weight, of two state dicts; the first where ``share`` is 0.

    Args:
        first, second: of one network, the second fine-tuned from the first, or the line leads through nothing useful.
        share: of the second; outside [0, 1] it extrapolates.

    Raises:
        InputError: the two are not of the same network.
    """
    unlike = sorted(set(first) ^ set(second))
    unlike += [name for name in first if name in second and first[name].shape != second[name].shape]
    if unlike:
        raise InputError(
            f"only weights of one network can be interpolated; these two differ in {', '.join(unlike[:3])}"
        )
    return {
        name: value.lerp(second[name], share) if value.is_floating_point() else value.clone()
        for name, value in first.items()
    }
