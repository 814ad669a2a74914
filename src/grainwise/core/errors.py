"""One tree of errors. Every message says what was wrong, what was given and what to do.

GrainwiseError
├── InputError          a value, option or tensor that cannot be used
│   ├── PlanError       a channel plan or width that a network does not have
│   ├── BudgetError     a budget that cannot be read or met
│   └── UnknownNameError  a name that is not in a registry (near names are shown)
├── PictureError        a picture file that cannot be read or written
├── WeightsError        a weights file that is missing, damaged or of another kind
├── TrainingError       a training run that cannot start, go on or resume
├── ExportError         a file for another runtime that cannot be made, or that differs from the network
└── Cancelled           the caller's progress callback returned False
"""

import difflib
from collections.abc import Iterable


class GrainwiseError(Exception):
    """Base class of all errors that grainwise raises on purpose."""


class InputError(GrainwiseError, ValueError):
    """A value, option or tensor cannot be used as given."""


class PlanError(InputError):
    """A channel plan, or one width of it, is not among those that the network has."""


class BudgetError(InputError):
    """A budget cannot be read, or no plan of the network fits it."""


class UnknownNameError(InputError):
    """A name is not registered."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        """Name the ``kind`` of thing, the ``name`` that was asked for, and what is ``known``, nearest first."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(names) or 'none'}."
        super().__init__(f"unknown {kind} {name!r}. {hint}")


class PictureError(GrainwiseError):
    """A picture file cannot be read or written."""


class WeightsError(GrainwiseError):
    """A weights file is missing, damaged, or not one of grainwise."""


class TrainingError(GrainwiseError):
    """A training run cannot start, go on or resume."""


class ExportError(GrainwiseError):
    """A file for another runtime cannot be made, or does not compute what the network computes."""


class Cancelled(GrainwiseError):  # noqa: N818 -- the event, as a user of the callback names it
    """The progress callback returned False, and the work was stopped."""
