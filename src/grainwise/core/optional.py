"""Libraries that not everyone needs, imported when first used."""

import importlib
from types import ModuleType

from grainwise.core.errors import GrainwiseError


def optional_module(module: str, *, needed_for: str, install: str) -> ModuleType:
    """Import ``module`` (a dotted name) and return it.

    Args:
        module: the module to import.
        needed_for: what asks for it, in the user's words ("the baseline 'tv'").
        install: the command that installs it, shown when it is missing.

    Raises:
        GrainwiseError: the module, or one that it imports, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise GrainwiseError(f"{needed_for} needs {missing!r}, which is not installed. Run: {install}") from error


BENCH_EXTRA = "pip install 'grainwise[bench]'"
"""The command that installs what baselines, SSIM and plots need."""

DATA_EXTRA = "pip install 'grainwise[data]'"
"""The command that installs what the files of published data sets need."""
