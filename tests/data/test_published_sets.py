"""The readers on files of the exact published formats, made here."""

import base64
import csv
import os
from pathlib import Path

import numpy as np
import pytest

from grainwise.core.errors import InputError, PictureError
from grainwise.core.pictures import Picture, write_picture
from grainwise.data import dnd, sidd
from grainwise.data.corpus import corpus_of
from grainwise.data.mat import read_rgb8
from grainwise.data.pairs import real_pairs
from grainwise.data.sidd_submission import write_sidd_submission
from tests.data.mat_files import matlab_order, save_version_5, save_version_73

REAL = Path(os.environ.get("GRAINWISE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "real"
INSTANCES = ("0001_001_S6_00100_00060_3200_L", "0052_002_GP_01600_01000_5500_N", "0053_002_IP_00800_01000_3200_H")


def random_picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    write_picture(path, pixels, Picture(pixels))
    return path


def medium(folder: Path) -> Path:
    """SIDD-Medium as it unpacks, with three small scene instances."""
    for place, name in enumerate(INSTANCES):
        for shot in ("010", "011"):
            for what, seed in (("NOISY", 1), ("GT", 2)):
                picture = random_picture(12, 16, 3, seed=10 * place + seed)
                save(folder / "SIDD_Medium_Srgb" / "Data" / name / f"{name[:4]}_{what}_SRGB_{shot}.PNG", picture)
    (folder / "SIDD_Medium_Srgb" / "Scene_Instances.txt").write_text("\n".join(INSTANCES))
    return folder


class TestSiddMedium:
    def test_pairs_by_scene(self, tmp_path: Path) -> None:
        pairs = sidd.medium_pairs(medium(tmp_path))
        assert [pair.name for pair in pairs] == [f"{name}/{shot}" for name in INSTANCES for shot in ("010", "011")]
        assert [(p.scene, p.phone, p.iso) for p in pairs[::2]] == [
            ("001", "S6", 100), ("002", "GP", 1600), ("002", "IP", 800)
        ]  # fmt: skip
        name, noisy, clean = pairs[2].read()
        assert name == INSTANCES[1] + "/010"
        assert np.array_equal(noisy, random_picture(12, 16, 3, seed=11))
        assert np.array_equal(clean, random_picture(12, 16, 3, seed=12))

    def test_a_scene_is_held_out_whole(self, tmp_path: Path) -> None:
        corpus = corpus_of([medium(tmp_path)], tmp_path / "cache", reductions=(1,), smallest=8, paired=True)
        assert (len(corpus), corpus.channels) == (6, 6)
        rest, held = corpus.split(2)
        assert ({entry.name for entry in rest.entries}, len(rest)) == ({"scene 002"}, 4)
        assert ({entry.name for entry in held.entries}, len(held)) == ({"scene 001"}, 2)
        assert np.array_equal(rest.picture(0)[:, :, :3], random_picture(12, 16, 3, seed=11))
        assert np.array_equal(rest.picture(0)[:, :, 3:], random_picture(12, 16, 3, seed=12))
        with pytest.raises(InputError, match="none is left to train on"):
            corpus.split(1)

    def test_names_without_the_instance_are_read_too(self, tmp_path: Path) -> None:
        for what in ("NOISY", "GT"):
            save(tmp_path / INSTANCES[0] / f"{what}_SRGB_010.PNG", random_picture(8, 8, 3))
        assert len(sidd.medium_pairs(tmp_path)) == 1

    @pytest.mark.parametrize("lost", ["GT", "NOISY"])
    def test_half_a_pair_is_refused(self, tmp_path: Path, lost: str) -> None:
        next(medium(tmp_path).rglob(f"0052_{lost}_SRGB_011.PNG")).unlink()
        with pytest.raises(InputError, match="no counterpart"):
            sidd.medium_pairs(tmp_path)

    def test_no_scene_is_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "a.png", random_picture(8, 8, 3))
        with pytest.raises(InputError, match="no folder of SIDD-Medium"):
            sidd.medium_pairs(tmp_path)


class TestSiddBlocks:
    def test_validation(self, tmp_path: Path) -> None:
        noisy, clean = random_picture(2, 3, 16, 16, 3, seed=1), random_picture(2, 3, 16, 16, 3, seed=2)
        save_version_5(tmp_path / "ValidationNoisyBlocksSrgb.mat", ValidationNoisyBlocksSrgb=noisy)
        save_version_5(tmp_path / "ValidationGtBlocksSrgb.mat", ValidationGtBlocksSrgb=clean)
        pairs = list(sidd.validation_blocks(tmp_path).pairs())
        assert [name for name, _, _ in pairs] == ["00-00", "00-01", "00-02", "01-00", "01-01", "01-02"]
        assert np.array_equal(pairs[4][1], noisy[1, 1])
        assert np.array_equal(pairs[4][2], clean[1, 1])

    def test_the_benchmark_has_no_references(self, tmp_path: Path) -> None:
        blocks = random_picture(1, 2, 16, 16, 3)
        save_version_5(tmp_path / "BenchmarkNoisyBlocksSrgb.mat", BenchmarkNoisyBlocksSrgb=blocks)
        read = sidd.benchmark_blocks(tmp_path)
        assert np.array_equal(read.noisy, blocks)
        with pytest.raises(InputError, match="no public references"):
            next(read.pairs())

    def test_wrong_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="cannot read"):
            sidd.benchmark_blocks(tmp_path)
        for wrong in (random_picture(2, 16, 16, 3), random_picture(1, 1, 8, 8, 3).astype(np.float32)):
            save_version_5(tmp_path / "BenchmarkNoisyBlocksSrgb.mat", BenchmarkNoisyBlocksSrgb=wrong)
            with pytest.raises(PictureError, match="uint8"):
                sidd.benchmark_blocks(tmp_path)
        for name, count in (("Noisy", 2), ("Gt", 1)):
            blocks = {f"Validation{name}BlocksSrgb": random_picture(1, count, 8, 8, 3)}
            save_version_5(tmp_path / f"Validation{name}BlocksSrgb.mat", **blocks)
        with pytest.raises(PictureError, match="fetch both"):
            sidd.validation_blocks(tmp_path)


class TestSiddSubmission:
    blocks = random_picture(2, 3, 16, 20, 3, seed=5)

    def test_mat(self, tmp_path: Path) -> None:
        io = pytest.importorskip("scipy.io")
        about = {"MethodName": "grainwise", "MachineSpecs": "one core"}
        write_sidd_submission(tmp_path / "SubmitSrgb.mat", self.blocks, seconds=0.5, about=about)
        held = io.loadmat(tmp_path / "SubmitSrgb.mat")
        cells = held["DenoisedBlocksSrgb"]
        assert cells.shape == (2, 3)
        assert cells.dtype == object
        assert cells[1, 2].dtype == np.float32
        assert np.array_equal(np.rint(255 * cells[1, 2]), self.blocks[1, 2])
        assert held["TimeMPSrgb"].item() == pytest.approx(0.5 * 1024**2 / (2 * 3 * 16 * 20))
        assert held["OptionalData"]["MethodName"].item().item() == "grainwise"

    def test_csv(self, tmp_path: Path) -> None:
        write_sidd_submission(tmp_path / "SubmitSrgb.csv", self.blocks, seconds=1, about={})
        with (tmp_path / "SubmitSrgb.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["ID"] for row in rows] == list("012345")
        block = np.frombuffer(base64.b64decode(rows[4]["BLOCK"]), np.uint8).reshape(16, 20, 3)
        assert np.array_equal(block, self.blocks[1, 1])

    def test_wrong_ones_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"SubmitSrgb\.csv"):
            write_sidd_submission(tmp_path / "out.npz", self.blocks, seconds=1, about={})
        with pytest.raises(InputError, match="uint8 blocks"):
            write_sidd_submission(tmp_path / "a.csv", self.blocks[0], seconds=1, about={})
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot write"):
            write_sidd_submission(tmp_path / "file" / "a.csv", self.blocks, seconds=1, about={})
        assert {path.name for path in tmp_path.iterdir()} == {"file"}


BOXES = np.array([[1, 1, 6, 8], [3, 5, 8, 12]], dtype=np.float64)


def save_dnd(folder: Path, count: int = 2, boxes: np.ndarray = BOXES) -> Path:
    """DND as it unpacks, with small pictures and two boxes each."""
    h5py = pytest.importorskip("h5py")

    def info(file: "h5py.File") -> None:
        group = file.create_group("info")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        references = group.create_dataset("boundingboxes", (1, count), dtype=h5py.ref_dtype)
        for index in range(count):
            box = file.create_dataset(f"#refs#/{'abcdef'[index]}", data=matlab_order(boxes))
            references[0, index] = box.ref

    save_version_73(folder / "info.mat", info)
    for index in range(count):
        picture = matlab_order(dnd_picture(index))
        save_version_73(
            folder / "images_srgb" / f"{index + 1:04d}.mat", lambda f, p=picture: f.create_dataset("InoisySRGB", data=p)
        )
    return folder


def dnd_picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).random((8, 12, 3), np.float32)


class TestDnd:
    def test_boxes_are_counted_from_1_and_inclusive(self, tmp_path: Path) -> None:
        pictures = list(dnd.dnd_pictures(save_dnd(tmp_path)))
        assert [picture.name for picture in pictures] == ["0001", "0002"]
        for index, picture in enumerate(pictures):
            assert [box.dtype for box in picture.boxes] == [np.float32] * 2
            assert np.array_equal(picture.boxes[0], dnd_picture(index)[0:6, 0:8])
            assert np.array_equal(picture.boxes[1], dnd_picture(index)[2:8, 4:12])

    def test_the_bundle_is_as_the_kit_makes_it(self, tmp_path: Path) -> None:
        io = pytest.importorskip("scipy.io")
        boxes = [dnd_picture(0)[:6, :8] * 3 - 1, dnd_picture(1)[:5, :4]]
        dnd.write_dnd_picture(tmp_path / "bundled", "0007", boxes)
        held = io.loadmat(tmp_path / "bundled" / "0007.mat")
        assert held["Idenoised"].shape == (1, 2)
        assert held["Idenoised"][0, 0].dtype == np.float32
        assert np.array_equal(held["Idenoised"][0, 0], boxes[0].clip(0, 1))
        assert held["Idenoised"][0, 1].shape == (5, 4, 3)
        assert held["israw"].item() == 0
        assert held["eval_version"].item() == "1.0"

    def test_wrong_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match=r"no .*info\.mat"):
            next(dnd.dnd_pictures(tmp_path))
        with pytest.raises(PictureError, match="leaves"):
            next(dnd.dnd_pictures(save_dnd(tmp_path / "large", boxes=BOXES + 3)))
        with pytest.raises(PictureError, match="four corners"):
            next(dnd.dnd_pictures(save_dnd(tmp_path / "three", boxes=BOXES[:, :3])))
        folder = save_dnd(tmp_path / "lost")
        (folder / "images_srgb" / "0002.mat").unlink()
        with pytest.raises(PictureError, match=r"0002\.mat"):
            list(dnd.dnd_pictures(folder))
        save_version_73(folder / "info.mat", lambda f: f.create_group("other"))
        with pytest.raises(PictureError, match=r"not DND's info\.mat"):
            dnd.bounding_boxes(folder / "info.mat")
        with pytest.raises(InputError, match="got none"):
            dnd.write_dnd_picture(tmp_path, "0001", [])


class TestPairs:
    def test_polyu_and_the_crops_of_nam(self, tmp_path: Path) -> None:
        names = ("Canon80D_8_8_3200_ball_16", "5dmark3_iso3200_1")
        for name, suffix in zip(names, ("JPG", "png"), strict=True):
            for ending in ("_real", "_mean"):
                save(tmp_path / f"{name}{ending}.{suffix}", random_picture(16, 16, 3))
        assert [name for name, _, _ in real_pairs(tmp_path)] == sorted(names)

    def test_nam_as_its_authors_give_it(self, tmp_path: Path) -> None:
        noisy, mean = random_picture(8, 9, 3, seed=1), random_picture(8, 9, 3, seed=2)
        folder = tmp_path / "Canon_EOS_5D_Mark3" / "ISO_3200"
        save_version_5(folder / "C_3.mat", img_noisy=noisy, img_mean=mean, img_cov=mean.astype(np.float64))
        ((name, first, second),) = real_pairs(tmp_path)
        assert name == "Canon_EOS_5D_Mark3/ISO_3200/C_3"
        assert np.array_equal(first, noisy)
        assert np.array_equal(second, mean)

    def test_pairs_of_one_name_in_several_folders(self, tmp_path: Path) -> None:
        for place, folder in enumerate(("a", "b")):
            for shift, ending in enumerate(("_real", "_mean")):
                save(tmp_path / folder / f"s1{ending}.png", random_picture(8, 8, 3, seed=10 * place + shift))
        pairs = list(real_pairs(tmp_path))
        assert [name for name, _, _ in pairs] == ["a/s1", "b/s1"]
        assert np.array_equal(pairs[0][2], random_picture(8, 8, 3, seed=1))
        assert [name for name, _, _ in sidd.training_pairs(tmp_path)] == ["a/s1", "b/s1"]
        (tmp_path / "a" / "s1_mean.png").unlink()
        with pytest.raises(InputError, match="a/s1_real has no a/s1_mean"):
            next(real_pairs(tmp_path))
        save(tmp_path / "a" / "s1_real.jpg", random_picture(8, 8, 3))
        with pytest.raises(InputError, match="have one name"):
            next(real_pairs(tmp_path))

    def test_no_pairs_and_unlike_ones_do_not_train(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no pairs to train on"):
            corpus_of([tmp_path], tmp_path / "cache", paired=True)
        save(tmp_path / "a_real.png", random_picture(8, 8, 3))
        save(tmp_path / "a_mean.png", random_picture(8, 9, 3))
        with pytest.raises(InputError, match="are a pair and differ in size"):
            corpus_of([tmp_path], tmp_path / "cache", smallest=8, paired=True)

    def test_half_a_pair_is_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "a_real.png", random_picture(8, 8, 3))
        with pytest.raises(InputError, match="a_real has no a_mean"):
            next(real_pairs(tmp_path))


@pytest.mark.skipif(not (REAL / "sidd-pair").is_dir(), reason="the SIDD pair is not at hand")
def test_the_real_pair_of_sidd() -> None:
    pytest.importorskip("scipy.io")
    noisy = read_rgb8(REAL / "sidd-pair" / "noisy.mat", "im_noisy").astype(np.float64)
    clean = read_rgb8(REAL / "sidd-pair" / "gt.mat", "im_gt")
    assert 10 * np.log10(255**2 / np.mean((noisy - clean) ** 2)) == pytest.approx(16.147, abs=5e-4)
