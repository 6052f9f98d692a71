"""The files of one result, written together: all of them or none.

``CMBDetectorLib.io`` is a base layer like ``geometry`` and ``volume``: the stages may write
through it, it knows none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from CMBDetectorLib.errors import UsageError
from CMBDetectorLib.io.writing import write_nifti, write_text
from CMBDetectorLib.progress import ProgressReporter
from CMBDetectorLib.reporting.counts import format_counts_csv
from CMBDetectorLib.reporting.document import format_document
from CMBDetectorLib.reporting.montage import write_montage
from CMBDetectorLib.reporting.segmentation_nrrd import lesion_segment, write_segmentation
from CMBDetectorLib.reporting.staging import write_together
from CMBDetectorLib.reporting.tables import format_csv
from CMBDetectorLib.results import DetectionResult
from CMBDetectorLib.volume import Volume

_IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".hdr", ".img.gz", ".img")


@dataclass(frozen=True)
class OutputPaths:
    """Where the results of one image go; None for what was not asked for."""

    labels: Path
    table: Path
    summary: Path
    document: Path
    picture: Path
    probability: Path | None
    segmentation: Path | None = None
    anatomy: Path | None = None

    def named(self) -> dict[str, Path]:
        """What each file is, and its path, in a fixed order."""
        paths = {
            "labels": self.labels,
            "table": self.table,
            "summary": self.summary,
            "document": self.document,
            "picture": self.picture,
            "segmentation": self.segmentation,
            "probability": self.probability,
            "anatomy": self.anatomy,
        }
        return {name: path for name, path in paths.items() if path is not None}

    def all_paths(self) -> tuple[Path, ...]:
        """All files, in a fixed order."""
        return tuple(self.named().values())


def output_stem(input_path: Path) -> str:
    """The image's file name without the ending of its format.

    >>> output_stem(Path("scans/sub-01.T2S.nii.gz"))
    'sub-01.T2S'
    """
    name = input_path.name
    for suffix in _IMAGE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def planned_outputs(
    input_path: Path,
    output_dir: Path,
    *,
    save_probability: bool,
    save_segmentation: bool = False,
    save_anatomy: bool = False,
) -> OutputPaths:
    """The files that a run on ``input_path`` writes; touches nothing."""
    stem = output_stem(input_path)
    return OutputPaths(
        labels=output_dir / f"{stem}_cmb_labels.nii.gz",
        table=output_dir / f"{stem}_cmb.csv",
        summary=output_dir / f"{stem}_cmb_summary.csv",
        document=output_dir / f"{stem}_cmb.json",
        picture=output_dir / f"{stem}_cmb.png",
        probability=output_dir / f"{stem}_cmb_probability.nii.gz" if save_probability else None,
        segmentation=output_dir / f"{stem}_cmb.seg.nrrd" if save_segmentation else None,
        anatomy=output_dir / f"{stem}_cmb_anatomy.nii.gz" if save_anatomy else None,
    )


def write_outputs(
    result: DetectionResult,
    image: Volume,
    paths: OutputPaths,
    *,
    reporter: ProgressReporter | None = None,
) -> None:
    """Write label map, table, counts, document and picture, and what else has a path.

    Files of the same names are replaced; to refuse that is up to the caller, before the run. The
    files are made in a hidden folder beside their places and then moved. If anything fails, what
    was there before is there again, and a folder that was made for the results is gone.

    Parameters
    ----------
    image
        The input on its own grid, for the picture.
    paths
        All in one folder, made if missing.
    reporter
        Hears of each file, and may stop the writing between two of them.

    Raises
    ------
    OutputError
        If the operating system refuses: no permission, disk full.
    Cancelled
        If ``reporter`` was asked to stop.
    UsageError
        If a probability map or an anatomy is to be written and the result has none.
    """
    if paths.probability is not None and result.probability is None:
        raise UsageError(
            f"the result has no probability map to write to {paths.probability}; "
            "run the detection with save_probability"
        )
    if paths.anatomy is not None and result.anatomy is None:
        raise UsageError(
            f"the result has no anatomy to write to {paths.anatomy}; "
            "run the detection with the anatomy auto, or without save_anatomy"
        )
    write_together(
        paths.named(),
        lambda name, target: _write(name, result, image, paths, target),
        reporter=reporter,
    )


def _write(
    name: str, result: DetectionResult, image: Volume, paths: OutputPaths, target: Path
) -> None:
    if name == "labels":
        write_nifti(result.label_map, target)
    elif name == "table":
        write_text(target, format_csv(result.detections))
    elif name == "summary":
        text = format_counts_csv(
            result.provenance.input_name,
            result.detections,
            anatomy=result.provenance.anatomy_source,
            n_dropped=len(result.dropped),
        )
        write_text(target, text)
    elif name == "document":
        names = {name: path.name for name, path in paths.named().items() if name != "document"}
        write_text(target, format_document(result, names))
    elif name == "picture":
        write_montage(result, image, target)
    elif name == "segmentation":
        segments = [lesion_segment(lesion.label) for lesion in result.detections]
        write_segmentation(result.label_map, segments, target)
    elif name == "anatomy" and result.anatomy is not None:
        write_nifti(result.anatomy, target)
    elif name == "probability" and result.probability is not None:
        write_nifti(result.probability, target)
