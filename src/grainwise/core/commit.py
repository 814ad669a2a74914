"""Which version of the code is running."""

import subprocess
from pathlib import Path


def current_commit() -> str:
    """The commit of the checkout that this package runs from, marked ``-dirty`` where it was changed; or "unknown"."""
    package = Path(__file__).parents[1]
    root = package.parents[1]
    if package.parent.name != "src" or not (root / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
