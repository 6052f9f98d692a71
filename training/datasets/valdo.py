"""VALDO 2021, Task 2: T2*-weighted scans of three cohorts with masks.

Layout, as the users of the set load it (read in public code: ZihaoChen0319/CMB-Segmentation,
hjkuijf/MixMicrobleedNet, jorgedelpozolerida/MicrobleedNet)::

    Task2/sub-101/sub-101_space-T2S_desc-masked_T2S.nii.gz    the scan; background 0 or NaN
                  sub-101_space-T2S_desc-masked_T1.nii.gz     not copied
                  sub-101_space-T2S_desc-masked_T2.nii.gz     not copied
                  sub-101_space-T2S_CMB.nii.gz                mask; empty where there is no lesion

Cohorts by the first digit: 1 SABRE, 2 RSS, 3 ALFA. Masks are meant to be binary; that some hold 2
or 3 was said in the challenge's forum, so what is above 0 counts, by components that share faces,
as in the challenge's evaluation. Field strengths and echo times differ between the cohorts and are
not in the files; they are left unknown.

References
----------
Sudre et al., "Where is VALDO? VAscular Lesions Detection and segmentatiOn challenge at MICCAI
2021", Medical Image Analysis 91, 2024.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from CMBDetectorLib.errors import InputError
from training.datasets.checks import DatasetIssue, relative
from training.datasets.source import SourceScan

COHORTS = {"1": "SABRE", "2": "RSS", "3": "ALFA"}

_SUBJECT = re.compile(r"sub-([0-9]{3})")
_IMAGE_ENDING = "_space-T2S_desc-masked_T2S.nii.gz"
_MASK_ENDING = "_space-T2S_CMB.nii.gz"


class Valdo:
    """Adapter; the root is ``Task2`` or the folder that holds it."""

    layout = "valdo"
    title = "VALDO 2021, Task 2: cerebral microbleeds"
    license = "CC BY-NC-SA"
    url = "https://valdo.grand-challenge.org"

    def recognizes(self, root: Path) -> bool:
        """Whether a folder of a subject has one of the set's files."""
        folders = _subjects(root)
        return any((f / f"{f.name}{_IMAGE_ENDING}").is_file() for f in folders)

    def scans(self, root: Path) -> Iterator[SourceScan | DatasetIssue]:
        """All subjects; see :class:`training.datasets.source.Adapter`."""
        folders = _subjects(root)
        if not folders:
            raise InputError(
                f"{root} is not in the layout 'valdo': expected folders such as "
                f"sub-101 with sub-101{_IMAGE_ENDING}; give the folder Task2"
            )
        for folder in folders:
            yield _scan(folder, root)


def _subjects(root: Path) -> list[Path]:
    inner = root / "Task2" if (root / "Task2").is_dir() else root
    return sorted(path for path in inner.glob("sub-*") if path.is_dir())


def _scan(folder: Path, root: Path) -> SourceScan | DatasetIssue:
    place = relative(folder, root)
    name = _SUBJECT.fullmatch(folder.name)
    center = COHORTS.get(name[1][0]) if name else None
    if name is None or center is None:
        text = f"got {folder.name}, expected sub-1xx, sub-2xx or sub-3xx; left out"
        return DatasetIssue("name-not-understood", text, place)
    image = folder / f"{folder.name}{_IMAGE_ENDING}"
    mask = folder / f"{folder.name}{_MASK_ENDING}"
    if not image.is_file():
        return DatasetIssue("image-missing", f"expected {image.name}; left out", place)
    if not mask.is_file():
        return DatasetIssue("annotation-missing", f"expected {mask.name}; left out", place)
    return SourceScan(
        participant=name[1],
        sequence="T2*",
        image=image,
        source=relative(image, root),
        annotation="mask",
        annotation_file=mask,
        lesions_are="components",
        center=center,
    )
