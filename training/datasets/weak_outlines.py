"""Weak annotations: an image and a rough drawing of each lesion, on one slice or a few.

The two sets that use this are private. Their layouts, as their users load them (read in public
code: jorgedelpozolerida/MicrobleedNet)::

    cmb_annotations/Annotations/…/<scan>mask.nii                       RODEJA: a value per lesion
                    cph_annotated/images/…/<scan>.nii.gz
                    cph_annotated_mip/images/…/<scan>.nii.gz

    <study>/images/<series>/<any>.nii.gz                               CEREBRIU
            segmentations/<series>.nii.gz
            tasks.json     [{name, series: [{name, segmentMap: {value: {attributes: {Multiple}}}}]}]

A series of CEREBRIU begins with its sequence: SWI, or T2S for T2*. Scans of RODEJA are SWI. Without
``tasks.json`` every value above 0 is a lesion. None of this was seen on the original data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import InputError
from training.datasets.checks import DatasetIssue, relative
from training.datasets.layout import bids_label
from training.datasets.source import SourceScan, nifti_files, stem

_RODEJA_IMAGES = ("cph_annotated", "cph_annotated_mip")
_SEQUENCES = {"SWI": "SWI", "T2S": "T2*", "T2STAR": "T2*"}


class WeakOutlines:
    """Adapter of both layouts; which one it is, is seen from the folders."""

    layout = "weak-outlines"
    title = "Scans with weak outlines of cerebral microbleeds"
    license = "private"
    url = ""

    def recognizes(self, root: Path) -> bool:
        """Whether the folders of one of the two layouts are there."""
        return _rodeja_folder(root) is not None or bool(_studies(root))

    def scans(self, root: Path) -> Iterator[SourceScan | DatasetIssue]:
        """All scans; see :class:`training.datasets.source.Adapter`."""
        rodeja = _rodeja_folder(root)
        if rodeja is not None:
            yield from _rodeja_scans(rodeja, root)
            return
        studies = _studies(root)
        if not studies:
            raise InputError(
                f"{root} is not in the layout 'weak-outlines': expected either Annotations beside "
                "cph_annotated, or folders with images and segmentations; see docs/datasets.md"
            )
        for study in studies:
            yield from _study_scans(study, root)


def _rodeja_folder(root: Path) -> Path | None:
    for folder in (root, root / "cmb_annotations"):
        has_images = any((folder / name / "images").is_dir() for name in _RODEJA_IMAGES)
        if has_images and (folder / "Annotations").is_dir():
            return folder
    return None


def _rodeja_scans(folder: Path, root: Path) -> Iterator[SourceScan | DatasetIssue]:
    drawings: dict[str, list[Path]] = {}
    for path in _nifti_below(folder / "Annotations"):
        name = stem(path)
        if name.endswith("mask") and name != "mask":
            drawings.setdefault(name.removesuffix("mask"), []).append(path)
        else:
            text = f"expected <scan>mask.nii, got {path.name}; left out"
            yield DatasetIssue("name-not-understood", text, relative(path, root))
    images: dict[str, list[Path]] = {}
    for part in _RODEJA_IMAGES:
        for path in _nifti_below(folder / part / "images"):
            images.setdefault(stem(path), []).append(path)
    for name in sorted(set(drawings) - set(images)):
        text = f"there is a drawing, but no image {name}.nii.gz; left out"
        yield DatasetIssue("image-missing", text, relative(drawings[name][0], root))
    for name, paths in sorted(images.items()):
        place = relative(paths[0], root)
        found = drawings.get(name, [])
        if len(paths) > 1 or len(found) > 1:
            text = f"{len(paths)} images and {len(found)} drawings of {name}; left out"
            yield DatasetIssue("ambiguous-annotation", text, place)
        elif not found:
            text = f"expected {name}mask.nii below Annotations; left out"
            yield DatasetIssue("annotation-missing", text, place)
        else:
            yield SourceScan(
                participant=bids_label(name),
                sequence="SWI",
                image=paths[0],
                source=place,
                annotation="outline",
                annotation_file=found[0],
            )


def _studies(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    folders = (root, *sorted(path for path in root.iterdir() if path.is_dir()))
    return [f for f in folders if (f / "images").is_dir() and (f / "segmentations").is_dir()]


def _study_scans(study: Path, root: Path) -> Iterator[SourceScan | DatasetIssue]:
    drawings = nifti_files(study / "segmentations")
    if not drawings:
        text = "segmentations holds no NIfTI file; the study is left out"
        yield DatasetIssue("annotation-missing", text, relative(study, root))
    for drawing in drawings:
        place = relative(drawing, root)
        series = stem(drawing)
        folder = study / "images" / series
        images = nifti_files(folder) if folder.is_dir() else []
        sequence = _SEQUENCES.get(series.split("_")[0].upper())
        if len(images) != 1:
            text = f"images/{series} holds {len(images)} images, expected 1; left out"
            code = "ambiguous-annotation" if images else "image-missing"
            yield DatasetIssue(code, text, place)
            continue
        if sequence is None:
            text = f"expected a name that begins with SWI or T2S, got {series}; left out"
            yield DatasetIssue("name-not-understood", text, place)
            continue
        try:
            values, n_listed = _listed_values(study, series)
        except InputError as error:
            yield DatasetIssue("unreadable-annotation", f"{error}; left out", place)
            continue
        yield SourceScan(
            participant=bids_label(study.name),
            acquisition=bids_label(series) if len(drawings) > 1 else "",
            sequence=sequence,
            image=images[0],
            source=relative(images[0], root),
            annotation="outline",
            annotation_file=drawing,
            outline_values=values,
            n_listed=n_listed,
        )


def _listed_values(study: Path, series: str) -> tuple[tuple[int, ...] | None, int | None]:
    """Values in the drawing that are lesions, and how many lesions that are, if it is said."""
    path = study / "tasks.json"
    if not path.is_file():
        return None, None
    try:
        tasks: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        task = next(task for task in tasks if task["name"] == study.name)
        entry = next(item for item in task["series"] if item["name"] == series)
        marks: dict[str, dict[str, Any]] = entry["segmentMap"]
        values = tuple(sorted(int(value) for value in marks))
        several = any(mark.get("attributes", {}).get("Multiple") for mark in marks.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"tasks.json does not say what is drawn in {series} ({reason}), expected a segmentMap"
        ) from error
    return values, None if several else len(values)


def _nifti_below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    inner = (path for path in sorted(folder.rglob("*")) if path.is_dir())
    return [path for place in (folder, *inner) for path in nifti_files(place)]
