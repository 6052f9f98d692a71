"""DOU: NIfTI images with MATLAB lists, and the assumed MATLAB images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from scipy.io import savemat

from CMBDetectorLib.errors import InputError
from training.datasets.dou import Dou


@pytest.fixture
def publish(tmp_path: Path, head, save_nifti) -> Callable[..., Path]:
    def make(affine: np.ndarray | str) -> Path:
        root = tmp_path / "source" / "cmb-3dcnn-data"
        made = head(affine, seed=1, dtype=np.int16)
        save_nifti(root / "nii" / "01.nii", made.array, made.affine)
        (root / "ground_truth").mkdir()
        savemat(root / "ground_truth" / "01.mat", {"cen": made.voxels + 1, "gt_num": [[2]]})
        return root

    return make


@pytest.fixture
def published(publish) -> Path:
    return publish("oblique")


def test_points_lie_where_itk_has_them_and_masks_are_the_balls(
    publish, standardize, same_image, head, some_affine
) -> None:
    published = publish(some_affine)
    written = standardize(published.parent)
    assert written.codes() == ["index-base-assumed"]
    row = written.scans["sub-01_swi"]
    assert (row["n_listed"], row["n_lesions"], row["annotation"]) == ("2", "2", "points")
    assert (row["field_strength_t"], row["echo_time_ms"]) == ("3", "24")
    same_image(published / "nii" / "01.nii", written.load("sub-01_swi"))
    image = SimpleITK.ReadImage(str(written.root / row["image"]))
    voxels = head().voxels.tolist()
    for point, voxel in zip(written.points("sub-01_swi"), voxels, strict=True):
        x, y, z = (float(point[f"{axis}_ras_mm"]) for axis in "xyz")
        assert image.TransformPhysicalPointToIndex((-x, -y, z)) == tuple(voxel)
        assert point["status"] == "grown"
    labels = np.asarray(written.load("sub-01_swi", "lesions").dataobj)
    balls = head(some_affine, seed=1).balls
    overlap = 2 * np.sum((labels > 0) & (balls > 0)) / (np.sum(labels > 0) + np.sum(balls > 0))
    assert overlap > 0.9
    assert [labels[tuple(voxel)] for voxel in voxels] == [1, 2]
    assert (written.root / row["lesions"]).with_name("sub-01_swi_desc-check.png").is_file()


def test_counts_and_pairs_that_do_not_agree(published: Path, standardize) -> None:
    lists = published / "ground_truth"
    savemat(lists / "01.mat", {"cen": np.array([[23, 31, 13], [1, 1, 1], [99, 9, 9]]), "gt_num": 5})
    savemat(lists / "07.mat", {"cen": np.array([[1, 2, 3]])})
    written = standardize(published)
    codes = written.codes()
    for code in ("count-differs", "image-missing", "point-on-background", "point-outside-image"):
        assert code in codes
    row = written.scans["sub-01_swi"]
    assert (row["n_listed"], row["n_lesions"]) == ("3", "1")
    assert [point["status"] for point in written.points("sub-01_swi")] == [
        "grown",
        "refused",
        "outside",
    ]
    listed = {row["code"] for row in written.table("mismatches.csv")}
    assert {"refused", "outside", "count-differs"} <= listed


def test_an_empty_list_is_a_scan_without_lesions(published: Path, standardize) -> None:
    savemat(published / "ground_truth" / "01.mat", {"cen": np.zeros((0, 0)), "gt_num": 0})
    written = standardize(published)
    row = written.scans["sub-01_swi"]
    assert (row["n_listed"], row["n_lesions"]) == ("0", "0")
    assert not np.asarray(written.load("sub-01_swi", "lesions").dataobj).any()


def test_matlab_images_get_the_published_voxels(tmp_path: Path, standardize, head) -> None:
    affine = np.diag([-0.45, -0.45, 1, 1])
    made = head(affine, seed=2, dtype=np.uint16)
    for folder, content in (
        ("mat", {"img": made.array}),
        ("ground_truth", {"cen": made.voxels + 1}),
    ):
        (tmp_path / "set" / folder).mkdir(parents=True)
        savemat(tmp_path / "set" / folder / "03.mat", content)
    written = standardize(tmp_path / "set", "--layout", "dou")
    copy = written.load("sub-03_swi")
    np.testing.assert_allclose(nib.affines.voxel_sizes(copy.affine), (0.45, 0.45, 1), rtol=1e-6)
    assert nib.aff2axcodes(copy.affine) == ("L", "P", "S")
    np.testing.assert_array_equal(np.asarray(copy.dataobj), made.array)
    assert "no-orientation" in written.codes("sub-03_swi")
    again = standardize(tmp_path / "set", "--layout", "dou", "--spacing", "0.5,0.5,2")
    assert nib.affines.voxel_sizes(again.load("sub-03_swi").affine).tolist() == [0.5, 0.5, 2]


@pytest.mark.parametrize(
    "content",
    [{"other": np.eye(3)}, {"cen": np.ones((2, 2))}, {"cen": np.array(["a", "bc"])}, None],
)
def test_a_list_that_is_none_is_left_out(published: Path, standardize, content, capsys) -> None:
    path = published / "ground_truth" / "01.mat"
    path.write_bytes(b"nothing") if content is None else savemat(path, content)
    assert standardize(published).code == 3
    assert "unreadable-annotation" in capsys.readouterr().err


def test_another_folder_is_refused(tmp_path: Path) -> None:
    assert not Dou().recognizes(tmp_path)
    with pytest.raises(InputError, match="ground_truth"):
        list(Dou().scans(tmp_path))
