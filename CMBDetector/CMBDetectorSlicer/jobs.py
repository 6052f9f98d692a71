"""The two things a child process does for the panel: search a scan, and look at it beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CMBDetectorLib.errors import InputError
from CMBDetectorSlicer.child_job import ChildJob
from CMBDetectorSlicer.job_report import JobError
from CMBDetectorSlicer.processes import ProcessRunner

if TYPE_CHECKING:
    from CMBDetectorLib.reporting.document import ResultDocument
    from CMBDetectorLib.results import ResultWarning
    from CMBDetectorLib.volume import Volume
    from CMBDetectorSlicer.anatomy_input import AnatomyInput

RESULTS_NAME = "results"
# As CMBDetectorLib.pipeline has it, which is not imported in 3D Slicer's own process.
WHOLE_IMAGE = "whole image"

OnProgress = Callable[[float, str, str, "float | None"], None]


@dataclass(frozen=True)
class DetectionSettings:
    """How to search; None is the default model, and the model's own threshold and volume."""

    model: str | None = None
    device: str = "auto"
    threshold: float | None = None
    minVolumeMm3: float | None = None


@dataclass(frozen=True)
class JobResult:
    """What a search found; ``labelMap`` lies on the searched image's grid, ``picture`` is PNG.

    ``anatomy`` is the label map that lesions were located by, on its own grid, None without one.
    """

    document: ResultDocument
    labelMap: Volume
    picture: bytes | None
    seconds: float
    device: str
    anatomy: Volume | None = None


@dataclass(frozen=True)
class ScanCheck:
    """What a scan is like, and what to doubt about it before it is searched.

    ``hasBrain`` is False where none was found and the whole image would be searched.
    """

    shape: tuple[int, int, int]
    spacingMm: tuple[float, float, float]
    axisCodes: str
    sliceSpacingMm: float
    brainVolumeMl: float
    warnings: tuple[ResultWarning, ...]
    hasBrain: bool = True


class DetectionJob(ChildJob):
    """A search for microbleeds.

    ``onProgress`` is told the fraction done (0 to 1), the stage, a message, and the seconds left
    (None where unknown); ``onLog`` lines for the curious.
    """

    def __init__(
        self,
        runner: ProcessRunner,
        image: Volume,
        mask: Volume | None,
        settings: DetectionSettings,
        *,
        anatomy: AnatomyInput = "auto",
        onProgress: OnProgress,
        onWarning: Callable[[str, str], None],
        onLog: Callable[[str], None],
        onDone: Callable[[JobResult], None],
        onFailed: Callable[[JobError], None],
        onCancelled: Callable[[], None],
    ) -> None:
        super().__init__(
            runner, image, mask, anatomy, onFailed=onFailed, onCancelled=onCancelled, onLog=onLog
        )
        self._settings = settings
        self._onProgress, self._onWarning, self._onDone = onProgress, onWarning, onDone
        self._result: dict[str, Any] | None = None
        self._error: tuple[str, str] | None = None
        self._stage = ""

    def _command(self, folder: Path) -> tuple[str, ...]:
        settings = self._settings
        options: list[str] = ["--device", settings.device, "--progress", "jsonl"]
        if not isinstance(self._anatomy, str) or self._anatomy != "none":
            options.append("--save-anatomy")
        for name, value in (
            ("--model", settings.model),
            ("--threshold", settings.threshold),
            ("--min-volume", settings.minVolumeMm3),
        ):
            if value is not None:
                options += [name, str(value)]
        inputs = self._inputArguments(folder)
        return ("detect", *inputs, "--output-dir", str(folder / RESULTS_NAME), *options)

    def _onEvent(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "progress":
            stage, message = event["stage"], self._plain(event["message"])
            if stage != self._stage:
                self._stage = stage
                self._onLog(message)
            self._onProgress(event["fraction"], stage, message, event["remaining_s"])
        elif kind == "warning":
            self._onWarning(event["code"], self._plain(event["message"]))
        elif kind == "error":
            self._error = self._error or (event["code"], event["message"])
        elif kind == "result":
            self._result = event

    def _errorEvent(self) -> tuple[str, str] | None:
        return self._error

    def _takeResult(self, folder: Path) -> Callable[[], None] | None:
        from CMBDetectorLib.io.reading import read_image
        from CMBDetectorLib.reporting.document import read_document

        if self._result is None:
            return None
        paths = {what: Path(path) for what, path in self._result["paths"].items()}
        labels = read_image(paths["labels"]).volume
        if not labels.geometry.is_close(self._image.geometry):
            raise InputError(
                f"the label map came back on another grid ({labels.geometry.shape} voxels) than "
                f"the scan's ({self._image.geometry.shape}); copy the report"
            )
        result = JobResult(
            document=read_document(paths["document"]),
            labelMap=self._image.with_array(labels.array.astype("int32")),
            picture=_bytesOf(paths["picture"]),
            seconds=sum(self._result["stage_seconds"].values()),
            device=self._result["device"],
            anatomy=read_image(paths["anatomy"]).volume if "anatomy" in paths else None,
        )
        return lambda: self._onDone(result)


class CheckJob(ChildJob):
    """A look at a scan without searching it: is it usable, where is the brain, what to doubt."""

    def __init__(
        self,
        runner: ProcessRunner,
        image: Volume,
        mask: Volume | None,
        *,
        anatomy: AnatomyInput = "auto",
        model: str | None = None,
        onDone: Callable[[ScanCheck], None],
        onFailed: Callable[[JobError], None],
        onCancelled: Callable[[], None] = lambda: None,
        onLog: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__(
            runner, image, mask, anatomy, onFailed=onFailed, onCancelled=onCancelled, onLog=onLog
        )
        self._model, self._onDone = model, onDone
        self._facts: dict[str, Any] | None = None
        self._error: tuple[str, str] | None = None

    def _command(self, folder: Path) -> tuple[str, ...]:
        model = () if self._model is None else ("--model", self._model)
        return ("check", *self._inputArguments(folder), "--json", *model)

    def _onEvent(self, event: dict[str, Any]) -> None:
        if "error" in event:
            self._error = (event["error"]["code"], event["error"]["message"])
        else:
            self._facts = event

    def _errorEvent(self) -> tuple[str, str] | None:
        return self._error

    def _takeResult(self, folder: Path) -> Callable[[], None] | None:
        from CMBDetectorLib.results import ResultWarning

        facts = self._facts
        if facts is None:
            return None
        check = ScanCheck(
            shape=_three(facts["shape"]),
            spacingMm=_three(facts["spacing_mm"]),
            axisCodes=facts["axis_codes"],
            sliceSpacingMm=facts["slice_axis_spacing_mm"],
            brainVolumeMl=facts["brain_volume_ml"],
            warnings=tuple(ResultWarning.from_dict(warning) for warning in facts["warnings"]),
            hasBrain=facts["brain_mask_source"] != WHOLE_IMAGE,
        )
        return lambda: self._onDone(check)


def _bytesOf(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}; search again") from error


def _three(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third


__all__ = [
    "CheckJob",
    "DetectionJob",
    "DetectionSettings",
    "JobError",
    "JobResult",
    "ScanCheck",
]
