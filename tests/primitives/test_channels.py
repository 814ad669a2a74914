"""Dims, plans and layouts."""

import pickle

import pytest

from grainwise.core.errors import InputError, PlanError
from grainwise.primitives.channels import ChannelDim, ChannelPlan, Channels, ChannelSpace

A = ChannelDim("a", (8, 16, 24))
B = ChannelDim("b", (4, 12))
SPACE = ChannelSpace((A, B))


def test_a_plan_is_a_hashable_ordered_mapping() -> None:
    small, large = SPACE.plan({"a": 8, "b": 12}), SPACE.plan({"b": 4, "a": 16})
    assert dict(large) == {"a": 16, "b": 4}
    assert list(large) == ["a", "b"]
    assert sorted([large, small]) == [small, large]
    assert len({small, SPACE.plan({"b": 12, "a": 8})}) == 1
    assert "a" in small
    assert "c" not in small


def test_a_plan_survives_text_and_pickle() -> None:
    plan = SPACE.plan({"a": 24, "b": 4})
    assert str(plan) == "a=24,b=4"
    assert SPACE.parse(str(plan)) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_scaled_takes_the_nearest_width() -> None:
    assert dict(SPACE.scaled(1.0)) == dict(SPACE.widest)
    assert dict(SPACE.scaled(0.0)) == dict(SPACE.narrowest)
    assert SPACE.scaled(0.7)["a"] == 16


@pytest.mark.parametrize("widths", [{"a": 8}, {"a": 8, "b": 4, "c": 1}, {"a": 9, "b": 4}, {"a": 16, "b": 16}])
def test_a_wrong_plan_is_refused(widths: dict[str, int]) -> None:
    with pytest.raises(PlanError):
        SPACE.plan(widths)


@pytest.mark.parametrize("text", ["", "a", "a=8,b", "a=8,b=x", "a=8,b=4,c=2", "b=4"])
def test_wrong_text_is_refused(text: str) -> None:
    with pytest.raises(PlanError):
        SPACE.parse(text)


def test_a_plan_of_another_space_is_refused() -> None:
    with pytest.raises(PlanError, match="order"):
        SPACE.check(ChannelPlan((("b", 4), ("a", 8))))
    with pytest.raises(PlanError):
        SPACE.check(ChannelPlan((("a", 8),)))


@pytest.mark.parametrize("widths", [(), (0,), (8, 8), (16, 8), (-1, 3)])
def test_wrong_widths_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(PlanError):
        ChannelDim("a", widths)


def test_wrong_names_are_refused() -> None:
    with pytest.raises(PlanError):
        ChannelDim("level 0", (8,))
    with pytest.raises(PlanError):
        ChannelSpace((A, A))
    with pytest.raises(PlanError, match="no dim 'c'"):
        SPACE.widest["c"]


def test_a_concatenation_keeps_one_prefix_per_part() -> None:
    layout = Channels.of(A) + Channels.of(3) + Channels.of(B)
    plan = SPACE.plan({"a": 16, "b": 4})
    assert layout.runs(plan) == ((0, 16), (24, 3), (27, 4))
    assert layout.width(plan) == 23
    assert layout.widest == 39


def test_a_shuffle_keeps_whole_groups() -> None:
    layout = Channels.of(A).unshuffled(2) + Channels.of(4)
    plan = SPACE.plan({"a": 8, "b": 4})
    assert layout.runs(plan) == ((0, 32), (96, 4))
    assert layout.shuffled(2).runs(plan) == ((0, 8), (24, 1))
    with pytest.raises(PlanError, match="whole groups"):
        Channels.of(A).shuffled(2)


def test_a_layout_of_nothing_is_refused() -> None:
    with pytest.raises(InputError):
        Channels.of(0)
