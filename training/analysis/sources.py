"""Where the scans of a dataset and their lesions lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.evaluation.names import (
    IMAGE_SUFFIXES,
    IMAGE_WORDS,
    REGION_WORDS,
    ScanName,
    file_stem,
    in_natural_order,
    is_brain_mask,
    match_names,
    scan_name,
    unique_ids,
)
from training.cases import METADATA_NAME, case_folders
from training.datasets.layout import SCANS_NAME, read_dataset

_NAMED = 5


@dataclass(frozen=True)
class ScanSource:
    """The files of one scan.

    Attributes
    ----------
    dataset, scan_id
        Together unique.
    image
        The scan.
    lesions, points, brain_mask, regions
        None where there is none. Points are a table; the others are volumes.
    case
        Folder of a simulated case; the other files lie in it.
    lesions_are
        ``values`` where every value of the label map is a lesion, else ``auto``.
    attributes
        What the dataset's table says of the scan, as text.
    """

    dataset: str
    scan_id: str
    image: Path
    lesions: Path | None = None
    points: Path | None = None
    brain_mask: Path | None = None
    regions: Path | None = None
    case: Path | None = None
    lesions_are: Literal["values", "auto"] = "auto"
    attributes: Mapping[str, str] = field(default_factory=dict)


def find_scans(folder: Path, dataset: str) -> tuple[ScanSource, ...]:
    """Scans of a standardized dataset, or of a folder of simulated cases.

    Raises
    ------
    InputError
        If the folder is neither, or the dataset's table is damaged.
    """
    if (folder / SCANS_NAME).is_file():
        return tuple(
            ScanSource(
                dataset,
                entry.scan_id,
                entry.image,
                lesions=entry.lesions,
                points=entry.points,
                brain_mask=entry.brain_mask,
                lesions_are="values",
                attributes=entry.attributes,
            )
            for entry in read_dataset(folder)
        )
    if folder.is_dir() and any(folder.glob(f"[!.]*/{METADATA_NAME}")):
        return find_cases(folder, dataset)
    got = "a folder without either" if folder.is_dir() else "no folder"
    raise InputError(
        f"{folder}: expected a dataset with a {SCANS_NAME} (python -m training standardize) or a "
        f"folder of simulated cases (python -m training simulate), got {got}; "
        "for plain folders give --images and --lesions"
    )


def find_cases(folder: Path, dataset: str) -> tuple[ScanSource, ...]:
    """Simulated cases.

    Raises
    ------
    InputError
        If there is none.
    """
    return tuple(
        ScanSource(
            dataset,
            case.name,
            case / "image.nii.gz",
            lesions=case / "truth.nii.gz",
            brain_mask=case / "brain_mask.nii.gz",
            case=case,
            lesions_are="values",
        )
        for case in case_folders(folder)
    )


def find_pairs(images: Path, lesions: Path, dataset: str) -> tuple[ScanSource, ...]:
    """Images and label maps of two folders, matched by name.

    Names are compared as in :mod:`CMBDetectorLib.evaluation.names`: ``scan_lesions.nii.gz`` belongs
    to ``scan.nii.gz``. An image without a label map is a scan that nobody has annotated, which is
    not a scan without lesions.

    Raises
    ------
    InputError
        If a folder holds no volume, a label map belongs to no image, or names are ambiguous.
    """
    image_paths, lesion_paths = _volumes(images), _volumes(lesions)
    names = [scan_name(path, images, IMAGE_WORDS) for path in image_paths]
    matched = match_names(names, [scan_name(path, lesions) for path in lesion_paths])
    lesions_of = {image: lesion_paths[row] for image, row in matched.pairs}
    unused = [path for path in lesion_paths if path not in lesions_of.values()]
    if unused:
        raise InputError(
            f"{lesions} has label maps that belong to no single image in {images}: "
            f"{_named(unused)}; a label map is named as its image, such as scan.nii.gz and "
            "scan_lesions.nii.gz"
        )
    return tuple(
        ScanSource(dataset, scan_id, path, lesions=lesions_of.get(row))
        for row, (scan_id, path) in enumerate(zip(unique_ids(names), image_paths, strict=True))
    )


def find_regions(folder: Path, scan_ids: Sequence[str]) -> dict[str, Path]:
    """Region map of each scan that has one: named as the scan, with or without a word after it.

    Raises
    ------
    InputError
        If the folder holds no volume, or none belongs to a scan.
    """
    paths = _volumes(folder)
    names = [scan_name(path, folder, REGION_WORDS) for path in paths]
    matched = match_names([ScanName(scan_id) for scan_id in scan_ids], names)
    if not matched.pairs:
        raise InputError(
            f"{folder} has no region map that is named as a scan, such as "
            f"{scan_ids[0]}_aseg.nii.gz; rename them"
        )
    return {scan_ids[scan]: paths[row] for scan, row in matched.pairs}


def dataset_names(folders: Sequence[Path], labels: Sequence[str]) -> list[str]:
    """A name for each folder: the label that was given for it, else its own name."""
    own = [folder.resolve().name or str(folder) for folder in folders]
    return [*labels[: len(own)], *own[len(labels) :]]


def _volumes(folder: Path) -> list[Path]:
    """Volumes in a folder and below it, without hidden ones and brain masks, in natural order."""
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of volumes, there is none; check the path")
    paths = [
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(IMAGE_SUFFIXES)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and not is_brain_mask(file_stem(path))
    ]
    if not paths:
        raise InputError(
            f"{folder} holds no volume, expected files ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    return sorted(paths, key=lambda path: in_natural_order(path.relative_to(folder).as_posix()))


def _named(paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths[:_NAMED])
    return f"{names} and {len(paths) - _NAMED} more" if len(paths) > _NAMED else names
