"""Constructor arguments that make the networks of the contract tests small; a network that is not named is tested whole."""

from typing import Any

SMALL: dict[str, dict[str, Any]] = {"mdrn": {"blocks": 2}}
