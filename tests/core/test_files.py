"""Whether a file can be written is asked without leaving anything."""

from pathlib import Path

import pytest

from grainwise.core.files import try_writing


def test_what_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("kept")
    for name in ("there", "new", "missing/folders/new"):
        try_writing(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "kept"


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "below", Path("/proc/none/below")):
        with pytest.raises(OSError, match=r"(?i)directory|permission"):
            try_writing(path)
