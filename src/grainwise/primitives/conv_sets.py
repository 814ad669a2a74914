"""The kinds of convolution by name, so that a weights file can say which a network is built of."""

from types import MappingProxyType

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.primitives.hyper_conv import HYPER, HYPER_QUADRATIC
from grainwise.primitives.malle_conv import MALLEABLE
from grainwise.primitives.modulated_conv import ADAFM, SCALED
from grainwise.primitives.slim_conv import SLIMMABLE, ConvSet

CONV_SETS: MappingProxyType[str, ConvSet] = MappingProxyType(
    {
        "slim": SLIMMABLE,
        "hyper": HYPER,
        "hyper-quadratic": HYPER_QUADRATIC,
        "adafm": ADAFM,
        "scaled": SCALED,
        "malleable": MALLEABLE,
    }
)


def conv_set(kind: str | ConvSet) -> ConvSet:
    """The set of that name; a set is given back as it is.

    Raises:
        UnknownNameError: no set has that name.
    """
    if isinstance(kind, ConvSet):
        return kind
    if kind not in CONV_SETS:
        raise UnknownNameError("kind of convolutions", kind, CONV_SETS)
    return CONV_SETS[kind]


def name_of_convs(convs: ConvSet) -> str:
    """The name of a set.

    Raises:
        InputError: the set has none, so a network built of it cannot be written to a file.
    """
    for name, known in CONV_SETS.items():
        if known == convs:
            return name
    raise InputError(f"only named sets of convolutions can be written to a file ({', '.join(CONV_SETS)}), got {convs}")
