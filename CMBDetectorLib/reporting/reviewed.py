"""The files of a reviewed result, written together: all of them or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.io.writing import write_nifti, write_text
from CMBDetectorLib.progress import ProgressReporter
from CMBDetectorLib.reporting.reviewed_document import (
    format_reviewed_counts,
    format_reviewed_csv,
    format_reviewed_document,
)
from CMBDetectorLib.reporting.segmentation_nrrd import lesion_segment, write_segmentation
from CMBDetectorLib.reporting.staging import write_together
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.volume import Volume

REVIEW_FORMATS = ("table", "document", "labels", "picture", "segmentation")
_ENDINGS = {
    "table": ".csv",
    "summary": "_summary.csv",
    "document": ".json",
    "labels": "_labels.nii.gz",
    "picture": ".png",
    "segmentation": ".seg.nrrd",
}


def planned_review_outputs(
    stem: str, folder: Path, formats: Sequence[str] = REVIEW_FORMATS
) -> dict[str, Path]:
    """The files that :func:`write_reviewed_outputs` writes, by format; touches nothing.

    With ``table`` comes ``summary``, the table of the counts.

    Raises
    ------
    UsageError
        If there is no format, or an unknown one, or the stem is no part of a file name.
    """
    unknown = [name for name in formats if name not in REVIEW_FORMATS]
    if unknown or not formats:
        raise UsageError(
            f"formats are one or more of {', '.join(REVIEW_FORMATS)}; "
            f"got {', '.join(unknown) or 'none'}"
        )
    if not stem or any(character in stem for character in "/\\\0"):
        raise UsageError(f"a file name was expected without its ending, got {stem!r}")
    return {
        name: folder / f"{stem}_cmb_reviewed{ending}"
        for name, ending in _ENDINGS.items()
        if name in formats or (name == "summary" and "table" in formats)
    }


def write_reviewed_outputs(
    session: ReviewSession,
    image: Volume,
    stem: str,
    folder: Path,
    *,
    formats: Sequence[str] = REVIEW_FORMATS,
    overwrite: bool = False,
    reporter: ProgressReporter | None = None,
) -> dict[str, Path]:
    """Write what a reader has made of a result; returns the files by format.

    Table and document hold all lesions and the record of the review. Label map, picture and
    segmentation leave out the rejected ones, as do the counts. If anything fails, nothing is left.

    Parameters
    ----------
    image
        The image that was searched, on the grid of the session's label map.
    folder
        Made if missing.

    Raises
    ------
    UsageError
        As :func:`planned_review_outputs`, or if a file exists and ``overwrite`` is not set.
    InputError
        If the image has another grid.
    OutputError
        If the operating system refuses.
    Cancelled
        If ``reporter`` was asked to stop.
    """
    paths = planned_review_outputs(stem, folder, formats)
    if not image.geometry.is_close(session.label_map.geometry):
        raise InputError(
            f"the image (shape {image.geometry.shape}) does not lie on the grid of the review "
            f"(shape {session.label_map.geometry.shape}); use the image the review was made with"
        )
    existing = [path for path in paths.values() if path.exists()]
    if existing and not overwrite:
        raise UsageError(
            f"{existing[0]} exists already; allow it to be replaced, or choose another folder"
        )
    write_together(
        paths,
        lambda name, target: _write(name, session, image, paths, target),
        reporter=reporter,
    )
    return paths


def _write(
    name: str, session: ReviewSession, image: Volume, paths: dict[str, Path], target: Path
) -> None:
    if name == "table":
        write_text(target, format_reviewed_csv(session))
    elif name == "summary":
        write_text(target, format_reviewed_counts(session))
    elif name == "document":
        others = {other: path.name for other, path in paths.items() if other != "document"}
        write_text(target, format_reviewed_document(session, others))
    elif name == "labels":
        write_nifti(session.counted_label_map(), target)
    elif name == "picture":
        # Pillow and scikit-image are not needed for the other files.
        from CMBDetectorLib.reporting.montage import write_montage
        from CMBDetectorLib.reporting.reviewed_picture import reviewed_content

        write_montage(reviewed_content(session), image, target)
    else:
        segments = [
            lesion_segment(lesion.id, lesion.verdict, lesion.origin)
            for lesion in session.lesions
            if lesion.is_counted
        ]
        write_segmentation(session.label_map, segments, target)
