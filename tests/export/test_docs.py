"""What docs/export.md shows, runs."""

import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grainwise.cli import main
from grainwise.export import Exported

DOCS = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", DOCS, re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if not kind for line in text.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    assert words[0] == "grainwise"
    with pytest.raises(SystemExit):
        main([words[1], "--help"])
    helped = capsys.readouterr().out
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(^|[\s,]){re.escape(option)}\b", helped), f"{command}: no {option}"


def test_the_python_runs_from_top_to_bottom(
    onnx_file: Exported,
    several_file: Exported,
    openvino_file: Exported,
    quality_file: Exported,
    gated_file: Exported,
    package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for told, stem in (
        (onnx_file, "fast"),
        (several_file, "budgets"),
        (openvino_file, "fast"),
        (quality_file, "dejpeg"),
        (gated_file, "gated"),
    ):
        for file in told.files:
            shutil.copy(file, tmp_path / file.name.replace("tiny", stem))
    shutil.copy(package, tmp_path / "grainwise.dtmodel")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noisy.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    code = [text for kind, text in BLOCKS if kind == "python"]
    assert len(code) == 7
    for text in code:
        exec(text, names)
    assert os.path.exists("clean.png")
    assert np.asarray(names["clean"]).shape == np.asarray(names["restored"]).shape == (1, 3, 40, 50)
    assert float(str(names["spent"])) in gated_file.macs_per_pixel
    assert names["costs"] == list(several_file.macs_per_pixel)
    assert capsys.readouterr().out.count("CC0-1.0") == 2
