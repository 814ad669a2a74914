"""The README says what runs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import grainwise
from grainwise.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("  ")[0]
    for kind, text in BLOCKS
    for line in text.splitlines()
    if not kind and line.startswith("grainwise ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    with pytest.raises(SystemExit) as stop:
        main([words[1], "--help"])
    assert not stop.value.code
    helped = capsys.readouterr().out
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(^|[\s,]){re.escape(option)}\b", helped), f"{command}: no {option}"


def test_the_python_example_runs() -> None:
    code = next(text for kind, text in BLOCKS if kind == "python")
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    names: dict[str, object] = {"noisy": picture, "blocky": picture, "small": picture}
    exec(code, names)  # the example itself
    clean, result, large = names["clean"], names["result"], names["large"]
    assert isinstance(large, np.ndarray)
    assert large.shape == (100, 125, 3)
    assert isinstance(clean, np.ndarray)
    assert clean.shape == (40, 50, 3)
    assert isinstance(result, grainwise.Restoration)


def test_every_linked_file_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_install_and_test_commands_name_real_files() -> None:
    text = "\n".join(text for kind, text in BLOCKS if not kind)
    assert "scripts/setup && scripts/test" in text
    for path in ("constraints.txt", "examples/noisy.png", "scripts/setup", "scripts/test"):
        assert path in text
        assert (ROOT / path).exists()
