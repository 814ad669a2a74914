"""``python -m grainwise`` is ``grainwise``."""

from grainwise.cli import main

main()
