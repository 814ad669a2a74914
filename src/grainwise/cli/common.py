"""The options that all commands for picture files share, described once."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from grainwise.cli import options

if TYPE_CHECKING:
    from grainwise.cli.early import Reading

_BEFORE = ("inputs", "out")
"""These come before a command's own options in its help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What the user asked for, of all commands alike; see `options` for each.

    Attributes:
        reading: the first picture, where it is being read already; no option.
    """

    inputs: options.Inputs
    out: options.Out
    model: options.Model
    budget: options.FileBudget = None
    max_seconds: options.MaxSeconds = None
    device: options.Device = "auto"
    dtype: options.Dtype = "auto"
    max_memory: options.MaxMemory = None
    quality: options.Quality = 95
    skip_existing: options.SkipExisting = False
    strip_metadata: options.StripMetadata = False
    route_map: options.RouteMap = None
    dry_run: options.DryRun = False
    as_json: options.Json = False
    reading: "Reading | None" = field(default=None, metadata={"option": False})


def with_common(model: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command all options of `Common`, which it gets as its first argument.

    Args:
        model: the weights that it takes by default.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        own = list(inspect.signature(command).parameters.values())[1:]
        options = [each for each in fields(Common) if each.metadata.get("option", True)]
        shared = [_parameter(each.name, each.type, each.default) for each in options]
        shared = [each.replace(default=model) if each.name == "model" else each for each in shared]
        first = [each for each in shared if each.name in _BEFORE]
        named = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        parameters = [*first, *named, *(each for each in shared if each.name not in _BEFORE)]

        @functools.wraps(command)
        def call(**given: Any) -> int:
            common = Common(**{each.name: given.pop(each.name) for each in shared})
            from grainwise.cli import early

            limited = common.max_memory is not None or common.max_seconds is not None
            if not (limited or common.dry_run or common.skip_existing):
                common = replace(common, reading=early.begin(common.inputs))
            return command(common, **given)

        call.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": int}
        return call

    return decorate


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:  # noqa: ANN401 -- a type and a default
    missing = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=missing, annotation=annotation)
