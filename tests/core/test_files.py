"""Files are written whole; whether one can be written is asked without leaving anything."""

from pathlib import Path

import pytest

from grainwise.core.files import try_writing, whole_file


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


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "target").chmod(0o600)
    (tmp_path / "link").symlink_to("target")
    with whole_file(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600
    (tmp_path / "dangling").symlink_to(tmp_path / "made" / "later")
    try_writing(tmp_path / "dangling")
    with whole_file(tmp_path / "dangling") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "made" / "later").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "link", "made", "target"]
