"""MOMENI and its synthetic set: a replica of the shared folder, lists as Excel or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl
import pytest

from CMBDetectorLib.errors import InputError
from training.datasets.momeni import Momeni, MomeniSynthetic

REAL, NEGATIVE = "122_T1_MRI_SWI_BFC_50mm_HM", "14_T6_MRI_SWI_BFC_50mm_HM"
ADDED, MADE = f"{REAL}_rsCMB_V1", f"{NEGATIVE}_sCMB_V10"
REAL_VOXELS = ((22, 30, 12), (44, 22, 10))
ADDED_VOXEL = (30, 40, 14)


def write_list(path: Path, rows: dict[str, Sequence[Sequence[int]]]) -> None:
    """A name, then three columns a lesion; blank texts where a scan has fewer, as published."""
    most = max(len(points) for points in rows.values())
    cells: list[list[object]] = [["NIFTI File Name "]]
    for number in range(most):
        cells[0] += [f"Location CMB # {number + 1}", "", ""]
    for name, points in rows.items():
        numbers = [value for point in points for value in point]
        cells.append([f"{name}.nii.gz", *numbers, *[" "] * (3 * most - len(numbers))])
    if path.suffix == ".csv":
        path.write_text("\n".join(",".join(map(str, row)) for row in cells), encoding="utf-8")
        return
    book = openpyxl.Workbook()
    for row in cells:
        book.worksheets[0].append(row)
    book.save(path)


@pytest.fixture
def share(tmp_path: Path, head, save_nifti, request) -> Path:
    """The folder; its lists are Excel files, or of the kind that the test asks for."""
    ending = getattr(request, "param", ".xlsx")
    root = tmp_path / "share" / "PublicDataShare_2020"
    places = {
        f"rCMB_DefiniteSubject/{REAL}": REAL_VOXELS,
        f"NoCMBSubject/{NEGATIVE}": (),
        f"sCMB_DefiniteSubject/{ADDED}": (ADDED_VOXEL, *REAL_VOXELS),
        f"sCMB_NoCMBSubject/{MADE}": (ADDED_VOXEL,),
    }
    for seed, (place, voxels) in enumerate(places.items()):
        made = head("permuted", voxels, seed=seed)
        save_nifti(root / f"{place}.nii.gz", made.array, made.affine)
    one_based = [tuple(index + 1 for index in voxel) for voxel in REAL_VOXELS]
    added = [tuple(index + 1 for index in ADDED_VOXEL)]
    write_list(root / f"rCMBInformationInfo{ending}", {REAL: one_based})
    write_list(root / f"sCMBInformationInfo{ending}", {ADDED: added})
    write_list(root / f"sCMBLocationInformationInfoNocmb{ending}", {MADE: added})
    return root


def voxels_of(written, scan_id: str) -> list[tuple[int, ...]]:
    """Written points as voxels of the copy, by nibabel."""
    points = [[float(p[f"{axis}_ras_mm"]) for axis in "xyz"] for p in written.points(scan_id)]
    inverse = np.linalg.inv(written.load(scan_id).affine)
    return [tuple(np.rint(v).astype(int)) for v in nib.affines.apply_affine(inverse, points)]


@pytest.mark.parametrize("share", [".xlsx", ".csv"], indirect=True)
def test_real_scans(share: Path, standardize, same_image) -> None:
    written = standardize(share.parent, "--layout", "momeni")
    assert list(written.scans) == ["sub-122_ses-T1_swi", "sub-14_ses-T6_swi"]
    positive, negative = written.scans.values()
    assert (positive["n_listed"], positive["n_lesions"]) == ("2", "2")
    assert (negative["n_listed"], negative["n_lesions"]) == ("0", "0")
    assert (positive["session"], positive["center"]) == ("ses-T1", "AIBL")
    assert written.codes() == []
    assert voxels_of(written, "sub-122_ses-T1_swi") == list(REAL_VOXELS)
    source = share / "rCMB_DefiniteSubject" / f"{REAL}.nii.gz"
    same_image(source, written.load("sub-122_ses-T1_swi"))


def test_synthetic_scans_keep_the_real_lesions(share: Path, standardize) -> None:
    written = standardize(share, "--layout", "momeni-synthetic")
    names = ["sub-122_ses-T1_acq-rsCMBV1_swi", "sub-14_ses-T6_acq-sCMBV10_swi"]
    assert list(written.scans) == names
    assert voxels_of(written, names[0]) == [ADDED_VOXEL, *REAL_VOXELS]
    assert voxels_of(written, names[1]) == [ADDED_VOXEL]
    assert [row["n_lesions"] for row in written.scans.values()] == ["3", "1"]
    assert written.codes() == ["real-lesions-added"]


def test_both_are_there_so_one_must_be_chosen(share: Path, standardize, capsys) -> None:
    assert standardize(share).code == 2
    assert "momeni, momeni-synthetic" in capsys.readouterr().err


def test_rows_that_do_not_fit_are_named(share: Path, standardize, head, save_nifti) -> None:
    folder = share / "rCMB_DefiniteSubject"
    made = head("permuted", seed=9)
    for name in ("15_T1_x", "16_T1_x", "17_T1_x", "nonsense"):
        save_nifti(folder / f"{name}.nii.gz", made.array, made.affine)
    for path in share.glob("rCMBInformationInfo*"):
        path.unlink()
    rows = [
        "name,x,y,z",
        f"{REAL}.nii.gz,23,31,13",
        f"{REAL}.nii.gz,23,31,13",
        "16_T1_x.nii.gz,1,2",
        "17_T1_x.nii.gz,left,2,3",
        "99_T1_x.nii.gz,1,2,3",
        "nonsense.nii.gz,1,2,3",
    ]
    (share / "rCMBInformationInfo.csv").write_text("\n".join(rows), encoding="utf-8")
    written = standardize(share, "--layout", "momeni")
    assert list(written.scans) == ["sub-122_ses-T1_swi", "sub-14_ses-T6_swi"]
    assert written.codes() == [
        "annotation-missing",
        "image-missing",
        "name-not-understood",
        "point-repeated",
        "unreadable-annotation",
        "unreadable-annotation",
    ]


def test_a_missing_list_and_another_folder_are_refused(share: Path, tmp_path: Path) -> None:
    for path in share.glob("rCMBInformationInfo*"):
        path.unlink()
    for adapter in (Momeni(), MomeniSynthetic()):
        with pytest.raises(InputError, match="rCMBInformationInfo"):
            list(adapter.scans(share))
        with pytest.raises(InputError, match="DefiniteSubject"):
            list(adapter.scans(tmp_path / "empty"))
