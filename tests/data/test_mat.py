from pathlib import Path

import numpy as np
import pytest

from grainwise.core import optional
from grainwise.core.errors import GrainwiseError, InputError, PictureError
from grainwise.data.mat import is_hdf5, read_mat, read_rgb8, write_mat
from tests.data.mat_files import matlab_order, save_version_5, save_version_73

PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_both_versions_give_the_same(tmp_path: Path) -> None:
    old = save_version_5(tmp_path / "old.mat", im_noisy=PICTURE, other=1.0)
    new = save_version_73(tmp_path / "new.mat", lambda f: f.create_dataset("im_noisy", data=matlab_order(PICTURE)))
    assert not is_hdf5(old)
    assert is_hdf5(new)
    for path in (old, new):
        read = read_rgb8(path, "im_noisy")
        assert read.dtype == np.uint8
        assert np.array_equal(read, PICTURE)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    pytest.importorskip("scipy.io")
    write_mat(tmp_path / "sub" / "a.mat", {"x": PICTURE, "y": np.float32(2)})
    assert np.array_equal(read_mat(tmp_path / "sub" / "a.mat", "x"), PICTURE)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write"):
        write_mat(tmp_path / "file" / "a.mat", {"x": PICTURE})


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="cannot read"):
        read_mat(tmp_path / "no.mat", "x")
    path = save_version_5(tmp_path / "a.mat", x=PICTURE, deep=PICTURE.astype(np.uint16), text="words")
    with pytest.raises(PictureError, match="no numeric variable 'z'"):
        read_mat(path, "z")
    with pytest.raises(PictureError, match="no numeric variable 'text'"):
        read_mat(path, "text")
    with pytest.raises(PictureError, match="uint8"):
        read_rgb8(path, "deep")
    cut = tmp_path / "cut.mat"
    cut.write_bytes(path.read_bytes()[:150])
    with pytest.raises(PictureError):
        read_mat(cut, "x")
    new = save_version_73(tmp_path / "new.mat", lambda f: f.create_group("x"))
    with pytest.raises(PictureError, match="no numeric variable 'x'"):
        read_mat(new, "x")
    cut.write_bytes(new.read_bytes()[:600])
    with pytest.raises(PictureError, match=r"version 7\.3"):
        read_mat(cut, "x")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_version_5(tmp_path / "a.mat", x=PICTURE)

    def missing(name: str) -> object:
        raise ImportError(name=name)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(GrainwiseError, match=r"scipy.*pip install 'grainwise\[data\]'"):
        read_mat(path, "x")
