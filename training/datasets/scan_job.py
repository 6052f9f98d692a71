"""One scan from its own layout to the standardized one; runs in a process of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from CMBDetectorLib.errors import InputError
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.io.writing import write_nifti, write_text
from CMBDetectorLib.reporting.rows import format_rows
from CMBDetectorLib.version import __version__
from CMBDetectorLib.volume import Volume
from training.datasets.annotation import Annotation, make_annotation, read_on_grid
from training.datasets.check_pictures import write_check
from training.datasets.checks import DatasetIssue, LeftOutError
from training.datasets.dataset_writer import FORMAT, DatasetWriter, ScanRecord
from training.datasets.grown import GrownMasks
from training.datasets.layout import POINT_COLUMNS, UNKNOWN, scan_paths
from training.datasets.mismatches import Mismatch, mismatches_of_growing
from training.datasets.source import SourceScan
from training.datasets.source_image import SourceImage, hash_files, load_image, write_image
from training.datasets.splits import image_hash

_ATTRIBUTES = ("field_strength_t", "echo_time_ms")


@dataclass(frozen=True)
class ScanOutcome:
    """What became of a scan: its record, or None where it was left out, and all remarks on it."""

    record: ScanRecord | None
    issues: tuple[DatasetIssue, ...]
    was_there: bool
    line: str


def standardize_scan(scan: SourceScan, root: Path) -> ScanOutcome:
    """Check a scan and write it, unless it is there already.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    writer = DatasetWriter(root)
    try:
        fingerprint = _fingerprint(scan)
        done = writer.find(scan.scan_id, fingerprint)
        if done is not None:
            return ScanOutcome(done, done.issues, True, f"{scan.scan_id}: was there already")
        image = load_image(scan)
        annotation = make_annotation(scan, image.volume)
        brain, found = _read_brain(scan, image.volume.geometry)
    except LeftOutError as error:
        return _left_out(scan, error.issue)
    except InputError as error:
        return _left_out(scan, DatasetIssue("unreadable-image", str(error), scan.source))
    raw = (*scan.issues, *image.issues, *annotation.issues, *found)
    issues = tuple(replace(issue, scan_id=scan.scan_id) for issue in raw)
    with writer.staging(scan.scan_id) as folder:
        files = _write(folder, scan, image=image, annotation=annotation, brain=brain, issues=issues)
        record = ScanRecord(
            fingerprint=fingerprint,
            row=_row(scan, image, annotation, files),
            files=tuple(sorted(files.values())),
            issues=issues,
            mismatches=_mismatches(scan, annotation),
        )
        writer.commit(folder, record)
    told = f"lesions {_number(annotation.n_lesions)}, remarks {len(issues)}"
    return ScanOutcome(record, issues, False, f"{scan.scan_id}: {told}")


def finished_record(scan: SourceScan, writer: DatasetWriter) -> ScanRecord | None:
    """What an earlier run wrote of a scan, if its source is still the same; else None."""
    try:
        return writer.find(scan.scan_id, _fingerprint(scan))
    except InputError:
        return None


def _left_out(scan: SourceScan, issue: DatasetIssue) -> ScanOutcome:
    issue = replace(issue, scan_id=scan.scan_id)
    raw = (*scan.issues, issue)
    issues = tuple(replace(entry, scan_id=scan.scan_id) for entry in raw)
    return ScanOutcome(None, issues, False, f"{scan.scan_id}: left out, {issue.code}")


def _fingerprint(scan: SourceScan) -> str:
    """Of all that the written files depend on."""
    points = scan.points
    facts = {
        "format": FORMAT,
        "version": __version__,
        "bytes": hash_files(scan.files),
        "points": None
        if points is None
        else [points.coordinates.tolist(), points.frame, points.index_base],
        "issues": [[issue.code, issue.message] for issue in scan.issues],
        "attributes": dict(scan.attributes),
    }
    plain = (
        "source",
        "sequence",
        "annotation",
        "lesions_are",
        "outline_values",
        "n_listed",
        "spacing_mm",
        "center",
    )
    facts |= {name: getattr(scan, name) for name in plain}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _read_brain(scan: SourceScan, geometry: Geometry) -> tuple[Volume | None, list[DatasetIssue]]:
    if scan.brain_mask is None:
        return None, []
    array, issues = read_on_grid(scan.brain_mask, geometry, scan.source)
    return Volume((array > 0).astype(np.uint8), geometry), issues


def _write(
    folder: Path,
    scan: SourceScan,
    *,
    image: SourceImage,
    annotation: Annotation,
    brain: Volume | None,
    issues: tuple[DatasetIssue, ...],
) -> dict[str, str]:
    """Write the files of a scan; what each is, and its place in the dataset."""
    paths = scan_paths(scan.participant, scan.session, scan.scan_id)
    write_image(image, folder / paths.image.name)
    write_text(folder / paths.sidecar.name, _sidecar(scan, image, issues))
    files = {"image": str(paths.image), "sidecar": str(paths.sidecar)}
    if annotation.labels is not None:
        write_nifti(annotation.labels, folder / paths.lesions.name)
        files["lesions"] = str(paths.lesions)
    if annotation.grown is not None:
        write_text(folder / paths.points.name, _format_points(annotation.grown))
        files["points"] = str(paths.points)
        if annotation.grown.lesions:
            path = folder / paths.picture.name
            mask = None if brain is None else brain.with_array(brain.array > 0)
            for page in write_check(
                path, image.volume, annotation.grown, title=scan.scan_id, brain_mask=mask
            ):
                files[page.stem] = str(paths.picture.with_name(page.name))
    if brain is not None:
        write_nifti(brain, folder / paths.brain_mask.name)
        files["brain_mask"] = str(paths.brain_mask)
    return files


def _row(
    scan: SourceScan, image: SourceImage, annotation: Annotation, files: Mapping[str, str]
) -> dict[str, str]:
    geometry = image.volume.geometry
    across = geometry.slice_axis
    in_plane = [mm for axis, mm in enumerate(geometry.spacing_mm) if axis != across]
    known = {
        "scan_id": scan.scan_id,
        "participant_id": f"sub-{scan.participant}",
        "session": f"ses-{scan.session}" if scan.session else UNKNOWN,
        "sequence": scan.sequence,
        "center": scan.center,
        "slice_thickness_mm": f"{geometry.spacing_mm[across]:.4g}",
        "in_plane_mm": f"{sum(in_plane) / 2:.4g}",
        "annotation": scan.annotation,
        "n_listed": _number(annotation.n_listed),
        "n_lesions": _number(annotation.n_lesions),
        "image_sha256": image_hash(image.volume),
        "source": scan.source,
    }
    places = {name: files.get(name, "") for name in ("image", "lesions", "points", "brain_mask")}
    attributes = {name: scan.attributes.get(name, "") for name in _ATTRIBUTES}
    row = known | places | attributes
    return {name: value or UNKNOWN for name, value in row.items()}


def _sidecar(scan: SourceScan, image: SourceImage, issues: tuple[DatasetIssue, ...]) -> str:
    geometry = image.volume.geometry
    content: dict[str, Any] = {
        "PulseSequenceType": scan.sequence,
        "SpacingBetweenSlices": round(geometry.spacing_mm[geometry.slice_axis], 6),
        "SourceFile": scan.source,
    }
    if "field_strength_t" in scan.attributes:
        content["MagneticFieldStrength"] = float(scan.attributes["field_strength_t"])
    if "echo_time_ms" in scan.attributes:
        content["EchoTime"] = float(scan.attributes["echo_time_ms"]) / 1000  # BIDS: seconds
    if scan.center:
        content["Cohort"] = scan.center
    if issues:
        content["Remarks"] = [f"{issue.code}: {issue.message}" for issue in issues]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _mismatches(scan: SourceScan, annotation: Annotation) -> tuple[dict[str, str], ...]:
    """Rows of the table of what is listed and what is in the masks."""
    if annotation.grown is not None:
        found = mismatches_of_growing(scan.scan_id, annotation.grown, n_listed=scan.n_listed)
    elif scan.n_listed is not None and annotation.n_lesions not in (None, scan.n_listed):
        text = f"{scan.n_listed} listed, {annotation.n_lesions} in the mask"
        found = (
            Mismatch(scan.scan_id, "count-differs", text, scan.n_listed, annotation.n_lesions),
        )
    else:
        found = ()
    return tuple(mismatch.to_row() for mismatch in found)


def _format_points(grown: GrownMasks) -> str:
    rows = [
        (lesion.number, *(f"{value:.4f}" for value in lesion.seed_ras_mm), lesion.status)
        for lesion in grown.lesions
    ]
    return format_rows(POINT_COLUMNS, rows)


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)
