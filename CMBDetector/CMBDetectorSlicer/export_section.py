"""Counts over the open result, and its files: written by the exporter of the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from CMBDetectorLib.anatomy.schemes import Summary, summarize
from CMBDetectorLib.errors import CMBDetectorError, MissingDependencyError, UsageError
from CMBDetectorSlicer.location_text import isLow
from CMBDetectorSlicer.review_host import ReviewHost
from CMBDetectorSlicer.volumes import volumeFromNode

if TYPE_CHECKING:
    from CMBDetectorLib.review.session import ReviewSession

NOT_FOR_CLINICAL_USE = "Research software. Not for clinical use."
_LONGEST_STEM = 80


class ExportSection:
    """Summary label, and the button that writes the chosen files."""

    def __init__(self, ui: Any, host: ReviewHost) -> None:
        self._ui = ui
        self._host = host
        self._boxes = {
            "table": ui.tableCheckBox,
            "document": ui.documentCheckBox,
            "labels": ui.labelsCheckBox,
            "picture": ui.pictureCheckBox,
            "segmentation": ui.segmentationCheckBox,
        }
        ui.exportButton.connect("clicked(bool)", lambda _checked=False: self.export())

    def update(self) -> None:
        """Bring the counts to the session's state; what was said of the last export goes."""
        session = self._host.session
        self._ui.exportMessageLabel.text = ""
        self._ui.exportButton.enabled = session is not None and not self._host.isOwnRead
        if session is None:
            self._ui.summaryLabel.text = ""
        elif self._host.isOwnRead:
            self._ui.summaryLabel.text = "Hidden until you have read the scan yourself."
        else:
            self._ui.summaryLabel.text = summaryText(session)

    def formats(self) -> tuple[str, ...]:
        """The chosen kinds of files."""
        return tuple(name for name, box in self._boxes.items() if box.checked)

    def export(self) -> None:
        """Write the chosen files, all of them or none, and say what was written."""
        if self._host.session is None or self._host.isOwnRead:
            return
        try:
            paths = self._write(self._host.session)
        except CMBDetectorError as error:
            self._ui.exportMessageLabel.text = str(error)
            return
        if paths:
            names = "\n".join(path.name for path in paths.values())
            folder = next(iter(paths.values())).parent
            self._ui.exportMessageLabel.text = f"Written to {folder}:\n{names}"

    def _write(self, session: ReviewSession) -> dict[str, Path]:
        from CMBDetectorLib.reporting.reviewed import planned_review_outputs, write_reviewed_outputs

        folder, formats = self._folder(), self.formats()
        if not formats:
            raise UsageError("no kind of file is chosen; tick at least one")
        stem = stemOf(session.provenance.input_name)
        planned = planned_review_outputs(stem, folder, formats)
        existing = [path.name for path in planned.values() if path.exists()]
        if existing and not slicer.util.confirmYesNoDisplay(
            f"Replace {len(existing)} files in {folder}?\n" + "\n".join(existing)
        ):
            self._ui.exportMessageLabel.text = "Nothing was written."
            return {}
        try:
            return write_reviewed_outputs(
                session,
                volumeFromNode(self._host.nodes.volumeNode),
                stem,
                folder,
                formats=formats,
                overwrite=bool(existing),
            )
        except ModuleNotFoundError as error:
            # Slicer lacks some packages until a search has installed them.
            raise MissingDependencyError(
                f"the Python package '{error.name}' is needed for these files and is not there; "
                "press Detect CMBs once to install what is missing, or choose fewer kinds of files"
            ) from error

    def _folder(self) -> Path:
        text = self._ui.exportFolderEdit.currentPath.strip()
        if not text:
            raise UsageError("no folder is chosen; choose the one to write to")
        folder = Path(text).expanduser()
        if not folder.is_absolute():
            raise UsageError(f"'{text}' is no full path of a folder; choose the folder to write to")
        return folder


def summaryText(session: ReviewSession) -> str:
    """Counts in words, over all lesions that are not rejected."""
    summary = summarize(session.lesions)
    rejected = sum(lesion.verdict == "rejected" for lesion in session.lesions)
    certainty = f"{summary.n_certain} certain, {summary.n_uncertain} uncertain"
    if summary.n_unreviewed:
        certainty += f", {summary.n_unreviewed} without a verdict"
    scheme, bombs = summary.scheme, summary.bombs_scheme
    lines = [
        f"{_lesions(summary.n)}: {certainty}. Rejected and not counted: {rejected}.",
        f"Zone ({scheme}): {_counts(summary.by_zone)}",
        f"Side: {_counts(summary.by_hemisphere)}",
        f"Region ({scheme}): {_counts(summary.by_region)}",
        f"Region ({bombs}): {_counts(summary.by_bombs_region)}",
        f"Size ({bombs}): {_counts(summary.by_size)}",
        f"Strictly lobar: {_strictlyLobar(summary)}",
    ]
    doubtful = sum(lesion.is_counted and isLow(lesion.detection) for lesion in session.lesions)
    if doubtful:
        lines.append(f"Region with low confidence, to be checked: {doubtful}")
    return "\n".join([*lines, NOT_FOR_CLINICAL_USE])


def stemOf(inputName: str) -> str:
    """A file name's beginning from the name of a volume, which may hold any character."""
    name = re.sub(r"(\.nii)?(\.gz)?$|\.nrrd$|\.nhdr$", "", inputName, flags=re.IGNORECASE)
    safe = re.sub(r"[^\w.+-]+", "_", name).strip("._")
    return safe[:_LONGEST_STEM] or "scan"


def _lesions(number: int) -> str:
    return "1 lesion" if number == 1 else f"{number} lesions"


def _counts(counts: dict[str, int]) -> str:
    told = [f"{name} {number}" for name, number in counts.items() if number]
    return ", ".join(told) or "none"


def _strictlyLobar(summary: Summary) -> str:
    if summary.strictly_lobar is None:
        return "cannot be said before every lesion has a region"
    return "yes" if summary.strictly_lobar else "no"
