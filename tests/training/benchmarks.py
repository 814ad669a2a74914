"""Scripts of the folder benchmarks as modules."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

FOLDER = str(Path(__file__).parents[2] / "benchmarks")


def benchmark(name: str) -> ModuleType:
    """The script of that name; the modules that it shares with others are found beside it, as when it is run."""
    if FOLDER not in sys.path:
        sys.path.append(FOLDER)
    return importlib.import_module(name)
