"""The settings of a run's stages, kept in its folder, so that no stage goes on with others than it was started with."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grainwise.core.errors import TrainingError
from grainwise.core.files import whole_file
from grainwise.training.loop import FREE_TO_CHANGE

if TYPE_CHECKING:
    from grainwise.training.recipe import Recipe
    from grainwise.training.stages import Stage

Settings = dict[str, Any]
"""By name, as ``--set`` takes it; groups of settings also have an entry of their own, their kind."""


def settings_of(recipe: "Recipe", stage: "Stage") -> Settings:
    """What decides the result of a stage: the settings of the recipe that it reads, and its own; as JSON holds them."""
    found: Settings = {}
    for name in stage.reads:
        _add(found, name, getattr(recipe, name))
    _add(found, f"stages.{stage.name}", stage)
    free = {f"stages.{stage.name}.{name}" for name in stage.free}
    kept = {
        name: value
        for name, value in found.items()
        if name.rpartition(".")[2] not in FREE_TO_CHANGE and name not in free
    }
    held: Settings = json.loads(json.dumps(kept))
    return held


def _add(found: Settings, name: str, value: Any) -> None:  # noqa: ANN401 -- any setting
    if is_dataclass(value):
        found[name] = type(value).__name__
        for one in fields(value):
            _add(found, f"{name}.{one.name}", getattr(value, one.name))
    else:
        found[name] = value


def path_of(out: Path, stage: "Stage") -> Path:
    """Where the settings of a stage are kept: in the run's folder, beside those of the stages."""
    return out / f"settings-{stage.name}.json"


def keep(out: Path, recipe: "Recipe", stage: "Stage") -> None:
    """Write down with what settings a stage is run."""
    with whole_file(path_of(out, stage)) as temporary:
        temporary.write_text(json.dumps(settings_of(recipe, stage), indent=1) + "\n")


def check(out: Path, recipe: "Recipe", stage: "Stage") -> None:
    """Refuse to go on with a stage that was started with other settings.

    A run of the time when settings were not kept is taken as it is, and so is a setting that there was not yet.

    Raises:
        TrainingError: another setting, or a file that cannot be read.
    """
    path = path_of(out, stage)
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text())
    except ValueError:
        raise TrainingError(f"{path} is damaged; delete it to go on without a check of the settings") from None
    now = settings_of(recipe, stage)
    changed = [name for name in now if name in before and before[name] != now[name]]
    if changed:
        what = ", ".join(f"{name}: {before[name]} then, {now[name]} now" for name in changed)
        raise TrainingError(
            f"the stage {stage.name} in {out} was started with other settings ({what}); resume it with its own, or choose "
            "another folder"
        )
