"""The dtype of the arithmetic where nobody chose one: the fastest that was timed here, before what the hardware's flags say."""

import json
from pathlib import Path

import pytest
import torch
from tests.runtime.small import small_weights

import grainwise
from grainwise.core.errors import InputError
from grainwise.runtime import calibration, machine
from grainwise.runtime.dtypes import fastest, measured_fastest, time_dtypes

CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "grainwise"


def auto() -> grainwise.Denoiser:
    return grainwise.Denoiser(small_weights(), device="cpu")


@pytest.mark.parametrize("name", list(DTYPES))
@pytest.mark.parametrize("flag", [False, True])
def test_what_was_timed_goes_before_the_flags(monkeypatch: pytest.MonkeyPatch, name: str, flag: bool) -> None:
    monkeypatch.setattr(machine, "cpu_has_bfloat16", lambda: flag)
    assert auto().dtype == (torch.bfloat16 if flag else torch.float32)
    seconds, path = time_dtypes(small_weights(), CPU, lambda dtype: 1.0 if dtype == name else 2.0)
    assert seconds == {dtype: 1.0 if dtype == name else 2.0 for dtype in DTYPES}
    assert path is not None
    assert auto().dtype == DTYPES[name]
    for chosen, dtype in DTYPES.items():
        assert grainwise.Denoiser(small_weights(), device="cpu", dtype=chosen).dtype == dtype  # type: ignore[arg-type]


def test_dtypes_that_differ_are_not_timed() -> None:
    def seconds(dtype: str) -> float:
        if dtype == "bfloat16":
            raise InputError("differs")
        return 1.0

    found, _ = time_dtypes(small_weights(), CPU, seconds)
    assert found == {"float32": 1.0}
    assert fastest(found) == "float32"

    def none(dtype: str) -> float:
        raise InputError(f"{dtype} differs")

    with pytest.raises(InputError, match="bfloat16 differs"):
        time_dtypes(small_weights(), CPU, none)


def test_a_restorer_times_its_dtypes(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(calibration, "_SIDES", (32, 48))
    denoiser = auto()
    seconds, path = denoiser.time_dtypes()
    assert set(seconds) == set(DTYPES)
    assert all(value > 0 for value in seconds.values())
    assert path is not None
    assert path.parent == cache
    assert auto().dtype == DTYPES[fastest(seconds)]


def test_of_other_weights_nothing_is_known() -> None:
    time_dtypes(small_weights(0), CPU, lambda dtype: 1.0)
    assert measured_fastest(small_weights(0), CPU) == torch.float32
    assert measured_fastest(small_weights(1), CPU) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"machine": {}, "seconds": {"float32": 1}}', "null"])
def test_damage_is_as_if_nothing_was_timed(damage: str) -> None:
    _, path = time_dtypes(small_weights(), CPU, lambda dtype: 1.0)
    assert path is not None
    path.write_text(damage)
    assert measured_fastest(small_weights(), CPU) is None


@pytest.mark.parametrize(
    "seconds",
    [{}, {"int8": 1.0}, {"float32": "fast"}, {"float32": float("nan")}, {"float32": -1.0}, {"float32": 10**400}],
)
def test_kept_seconds_that_make_no_sense_are_not_taken(seconds: dict[str, object]) -> None:
    _, path = time_dtypes(small_weights(), CPU, lambda dtype: 1.0)
    assert path is not None
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": seconds}))
    assert measured_fastest(small_weights(), CPU) is None


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert time_dtypes(small_weights(), CPU, lambda dtype: 1.0) == ({"float32": 1.0, "bfloat16": 1.0}, None)
    assert measured_fastest(small_weights(), CPU) is None
