"""Recipes and their settings."""

from pathlib import Path

import pytest

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.networks.checkpoint import Card, MeasuredPlan, save_weights
from grainwise.networks.registry import create_network
from grainwise.training.kept_settings import settings_of
from grainwise.training.recipes import RECIPES, find_folders, get_recipe, network_of
from grainwise.training.release import FREE, rights


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_its_network(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert all(settings_of(recipe, stage) for stage in recipe.stages)
    network = network_of(recipe)
    again = network_of(recipe)
    assert all((a == b).all() for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_settings_are_changed_by_their_kind() -> None:
    recipe = get_recipe(
        "default",
        [
            "loop.steps=12",
            "loop.learning_rate=1",
            "loop.crops=[[0, 32], [5, 64]]",
            "loop.precision=fp32",
            "method.synergy=false",
            "crops.sigma=[0, 0.1]",
            "data=a,b",
            'config={"blocks": [1, 1, 1]}',
        ],
    )
    assert (recipe.loop.steps, recipe.loop.learning_rate, recipe.loop.precision) == (12, 1.0, "fp32")
    assert recipe.loop.crops == ((0, 32), (5, 64))
    assert recipe.method.synergy is False
    assert recipe.crops.sigma == (0.0, 0.1)
    assert recipe.data == ("a", "b")
    assert recipe.config == {"blocks": [1, 1, 1]}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ("loop.step=3", UnknownNameError, "Did you mean steps"),
        ("loop.steps.more=3", UnknownNameError, "setting"),
        ("loop", InputError, "key=value"),
        ("loop=3", InputError, "group of settings"),
        ("loop.steps=many", InputError, "a whole number"),
        ("loop.steps=1.5", InputError, "a whole number"),
        ("loop.steps=true", InputError, "a whole number"),
        ("loop.precision=int8", InputError, "fp32 or bf16 or fp16"),
        ("loop.crops=[1, 2]", InputError, "loop.crops takes"),
        ("crops.sigma=[0]", InputError, "crops.sigma takes"),
        ("loop.steps=0", InputError, "at least 1"),
    ],
)
def test_wrong_changes_are_refused(change: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        get_recipe("default", [change])


def test_unknown_recipes_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean default"):
        get_recipe("defualt")


def test_folders_are_found_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets" / "one").mkdir(parents=True)
    monkeypatch.setenv("GRAINWISE_DATA", str(tmp_path / "sets"))
    assert find_folders(["one"]) == [tmp_path / "sets" / "one"]
    assert find_folders([str(tmp_path / "sets")]) == [tmp_path / "sets"]
    with pytest.raises(InputError, match="GRAINWISE_DATA"):
        find_folders(["two"])


def test_weights_are_free_where_all_that_taught_them_is(tmp_path: Path) -> None:
    network = create_network("half_unet", {})
    plans = (MeasuredPlan(str(network.space.widest), 1),)
    about = {
        "data": ("anything",),
        "recipe": "",
        "commit": "",
        "steps": 1,
        "seconds": 1.0,
        "device": "",
        "plans": plans,
    }
    for index, licence in enumerate((FREE, "research only")):
        save_weights(tmp_path / f"{index}.safetensors", network, Card(licence=licence, **about))
    assert rights(get_recipe("default"))[0] == FREE
    assert rights(get_recipe("tiny"))[0] == FREE
    assert rights(get_recipe("default", ["data=train-free,cbsd432"]))[0] != FREE
    assert rights(get_recipe("default", ["data=/some/pictures"]))[0] != FREE
    licence, data = rights(get_recipe("default-tuned", [f"init={tmp_path / '0.safetensors'}"]))
    assert licence == FREE
    assert data[-1] == "first weights 0.safetensors, taught with anything"
    assert rights(get_recipe("default-tuned", [f"init={tmp_path / '1.safetensors'}"]))[0] != FREE
