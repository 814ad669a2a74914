"""libvips, loaded when the first picture is read or written, and silent."""

import functools
import os
import sys
from typing import Any


@functools.cache
def load_vips() -> Any:  # noqa: ANN401 -- a module without types
    """The module ``pyvips``, without its log handler.

    The handler is Python code that libvips calls in the middle of its work, and a Ctrl-C that arrives there is swallowed.
    Warnings are switched off instead; errors still raise. Where the program imported pyvips before, its settings stay.
    """
    first = "pyvips" not in sys.modules
    os.environ.setdefault("VIPS_WARNING", "0")
    import pyvips

    if first:
        pyvips._remove_log_handler()
    return pyvips
