"""The whole path from an image to its microbleeds; the only place where the stages meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from CMBDetectorLib.anatomical_map import (
    NO_ANATOMY,
    NO_NETWORK,
    Anatomy,
    find_anatomy,
    given_anatomy,
    load_anatomy_model,
    place_lesions,
    read_anatomy,
)
from CMBDetectorLib.errors import InputError, UsageError
from CMBDetectorLib.io.reading import read_image, read_mask
from CMBDetectorLib.preflight import (
    check_anatomy_choice,
    check_outputs,
    require_inference_packages,
    resolve_operating_point,
)
from CMBDetectorLib.preprocessing.brain_mask import BrainMask, find_brain
from CMBDetectorLib.preprocessing.checks import assess_suitability, validate_volume
from CMBDetectorLib.progress import CancelToken, ProgressCallback, ProgressReporter
from CMBDetectorLib.provenance import InputRecord, array_sha256, describe_run, timestamp
from CMBDetectorLib.reporting.outputs import planned_outputs, write_outputs
from CMBDetectorLib.results import DetectionResult, ResultWarning
from CMBDetectorLib.searching import (
    Detectors,
    as_detectors,
    find_detectors,
    joint_operating_point,
    search,
    with_own_rules,
)
from CMBDetectorLib.settings import (
    AnatomyChoice,
    Backend,
    DetectionRequest,
    OperatingPoint,
    Precision,
)
from CMBDetectorLib.volume import Volume

if TYPE_CHECKING:
    from CMBDetectorLib.inference.device import ComputeDevice
    from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle
    from CMBDetectorLib.models.library import DetectorBundle

# Shares of the time of a run with the bundled model on two processor cores.
STAGE_WEIGHTS = {
    "read": 3.0,
    "anatomy": 12.0,
    "brain mask": 8.0,
    "prepare": 3.0,
    "inference": 75.0,
    "restore": 2.0,
    "lesions": 3.0,
    "write": 6.0,
}
WHOLE_IMAGE = "whole image"
"""Source of the brain mask where no brain was found, and that is no error."""


@dataclass(frozen=True)
class Scan:
    """An image that has been read and found usable, and what the user has given for it."""

    volume: Volume
    user_mask: Volume | None
    anatomy: Anatomy
    record: InputRecord
    warnings: tuple[ResultWarning, ...]
    stored_dtype: str | None = None


@dataclass(frozen=True)
class Assessment:
    """What an image is like before it is searched, and all there is to doubt about it by then."""

    volume: Volume
    brain: BrainMask
    anatomy: Anatomy
    warnings: tuple[ResultWarning, ...]


def assess(
    request: DetectionRequest,
    *,
    bundle: DetectorBundle | Sequence[DetectorBundle] | None = None,
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Assessment:
    """Read an image, find its brain, and judge whether it can be searched; needs no torch.

    The first steps of :func:`detect`: the same image is refused for the same reasons, and the
    warnings are those of a run, apart from warnings that only the computation can give. With the
    anatomy ``auto`` the brain is found by a quick method instead of the network that
    :func:`detect` uses, and it is no error if that finds none. Nothing is written.

    Raises
    ------
    InputError, ModelError
        As :func:`detect`.
    Cancelled
        After ``cancel`` was set.
    """
    check_anatomy_choice(request)
    weights = {stage: STAGE_WEIGHTS[stage] for stage in ("read", "brain mask")}
    reporter = ProgressReporter(weights, on_progress, cancel)
    detectors = find_detectors(request.model) if bundle is None else as_detectors(bundle)
    with reporter.stage("read", f"reading {request.input_path.name}"):
        scan = _read_scan(request)
    with _errors_naming(request.input_path):
        brain, warnings = _assess(
            scan, scan.anatomy, detectors, reporter, needs_brain=request.anatomy != "auto"
        )
    return Assessment(scan.volume, brain, scan.anatomy, _distinct(warnings))


def detect(
    request: DetectionRequest,
    *,
    bundle: DetectorBundle | Sequence[DetectorBundle] | None = None,
    anatomy_bundle: AnatomyBundle | None = None,
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> DetectionResult:
    """Find microbleeds in one image file and, if the request names a folder, write the results.

    Parameters
    ----------
    bundle
        A model that is loaded already, or several, used instead of ``request.model``.
    anatomy_bundle
        An anatomy model that is loaded already; used where the request's anatomy is ``auto``.
    on_progress
        Called in this thread with every step.
    cancel
        Set it from another thread to stop; looked at between steps and between tiles.

    Raises
    ------
    UsageError, InputError, ModelError, DeviceError, OutputError, MissingDependencyError
        Where the run cannot be done; nothing has been written.
    Cancelled
        After ``cancel`` was set; nothing has been written.
    """
    check_anatomy_choice(request)
    anatomy_bundle = _anatomy_bundle(request, anatomy_bundle)
    reporter = ProgressReporter(_stage_weights(anatomy_bundle), on_progress, cancel)
    paths = None
    if request.output_dir is not None:
        paths = planned_outputs(
            request.input_path,
            request.output_dir,
            save_probability=request.save_probability,
            save_segmentation=request.save_segmentation,
            save_anatomy=request.save_anatomy
            and (request.anatomy != "auto" or anatomy_bundle is not None),
        )
        check_outputs(paths.all_paths(), overwrite=request.overwrite)
    detectors = find_detectors(request.model) if bundle is None else as_detectors(bundle)
    _operating_point(request, detectors)
    with reporter.stage("read", f"reading {request.input_path.name}"):
        scan = _read_scan(request)
    with _errors_naming(request.input_path):
        result = _search(scan, detectors, anatomy_bundle, request, reporter)
    if paths is not None:
        with reporter.stage("write", "writing the results"):
            write_outputs(result, scan.volume, paths, reporter=reporter)
    seconds = dict(reporter.stage_seconds)
    return replace(result, provenance=replace(result.provenance, stage_seconds=seconds))


def detect_volume(
    volume: Volume,
    bundle: DetectorBundle | Sequence[DetectorBundle],
    *,
    brain_mask: Volume | None = None,
    anatomy: AnatomyChoice | Volume = "auto",
    anatomy_bundle: AnatomyBundle | None = None,
    name: str = "array",
    device: str = "auto",
    precision: Precision = "auto",
    backend: Backend = "torch",
    threshold: float | None = None,
    min_volume_mm3: float | None = None,
    extent_threshold: float | None = None,
    keep_probability: bool = False,
    on_progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> DetectionResult:
    """Find microbleeds in an array; the same path as :func:`detect`, without files.

    ``brain_mask`` and a label map as ``anatomy`` may lie on any grid in the same space. Raises as
    :func:`detect` does.
    """
    request = DetectionRequest(
        input_path=Path(name),
        anatomy="none" if isinstance(anatomy, Volume) else anatomy,
        device=device,
        precision=precision,
        backend=backend,
        threshold=threshold,
        min_volume_mm3=min_volume_mm3,
        extent_threshold=extent_threshold,
        save_probability=keep_probability,
    )
    check_anatomy_choice(request)
    anatomy_bundle = _anatomy_bundle(request, anatomy_bundle)
    reporter = ProgressReporter(_stage_weights(anatomy_bundle), on_progress, cancel)
    given = NO_ANATOMY
    with reporter.stage("read", "checking the image"):
        sha256 = array_sha256(volume.array)
        valid, warnings = validate_volume(volume)
        if isinstance(anatomy, Volume):
            given = given_anatomy(anatomy, valid.geometry)
    scan = Scan(valid, brain_mask, given, InputRecord(name, sha256), warnings)
    return _search(scan, as_detectors(bundle), anatomy_bundle, request, reporter)


def _anatomy_bundle(request: DetectionRequest, given: AnatomyBundle | None) -> AnatomyBundle | None:
    """The network that is to find the anatomy; None where none is asked for, or there is none."""
    if request.anatomy != "auto":
        return None
    return given or load_anatomy_model()


def _stage_weights(anatomy_bundle: AnatomyBundle | None) -> dict[str, float]:
    """Of the stages of a run; the anatomy is a stage where a network finds it."""
    return {
        stage: weight
        for stage, weight in STAGE_WEIGHTS.items()
        if stage != "anatomy" or anatomy_bundle is not None
    }


def _read_scan(request: DetectionRequest) -> Scan:
    with _errors_naming(request.input_path):
        loaded = read_image(request.input_path, volume_index=request.volume_index)
        volume, warnings = validate_volume(loaded.volume)
    user_mask = None
    if request.brain_mask_path is not None:
        with _errors_naming(request.brain_mask_path):
            user_mask = read_mask(request.brain_mask_path)
    anatomy = NO_ANATOMY
    if isinstance(request.anatomy, Path):
        anatomy = read_anatomy(request.anatomy, volume.geometry)
    record = InputRecord(request.input_path.name, loaded.sha256, loaded.volume_index)
    return Scan(volume, user_mask, anatomy, record, loaded.warnings + warnings, loaded.stored_dtype)


def _assess(
    scan: Scan,
    anatomy: Anatomy,
    detectors: Detectors,
    reporter: ProgressReporter,
    *,
    needs_brain: bool = True,
) -> tuple[BrainMask, tuple[ResultWarning, ...]]:
    """The brain, and the warnings from reading to here."""
    with reporter.stage("brain mask", "finding the brain"):
        try:
            brain = find_brain(
                scan.volume,
                scan.user_mask,
                anatomy.used_map,
                anatomy_source=f"anatomy {'file' if anatomy.is_given else 'network'}",
            )
        except InputError:
            if needs_brain or scan.user_mask is not None:
                raise
            brain = _whole_image(scan.volume)
        ranges = [one.training_range for one in detectors if one.training_range is not None]
        suitability = assess_suitability(scan.volume, brain.mask, *ranges)
    return brain, scan.warnings + anatomy.warnings + brain.warnings + suitability


def _whole_image(volume: Volume) -> BrainMask:
    message = "no brain was found in the image; all of it that is not 0 is taken for one"
    warning = ResultWarning("no-brain-found", message)
    return BrainMask(volume.with_array(volume.array != 0), WHOLE_IMAGE, (warning,))


def _operating_point(request: DetectionRequest, detectors: Detectors) -> OperatingPoint:
    """As asked for, or the models' own.

    Raises
    ------
    UsageError
        If a value is out of range, or the model makes lesions by rules that do not know it.
    """
    if request.extent_threshold is not None and with_own_rules(detectors) is not None:
        raise UsageError(
            f"{detectors[0].id} makes lesions by its own rules, which have one threshold; "
            "leave out the extent's"
        )
    return resolve_operating_point(request, joint_operating_point(detectors))


def _search(
    scan: Scan,
    detectors: Detectors,
    anatomy_bundle: AnatomyBundle | None,
    request: DetectionRequest,
    reporter: ProgressReporter,
) -> DetectionResult:
    """From a usable image to its lesions; the image's own grid comes back in the result."""
    started_at = timestamp()
    operating_point = _operating_point(request, detectors)
    require_inference_packages()
    anatomy, compute = scan.anatomy, None
    if request.anatomy == "auto" and anatomy_bundle is None:
        anatomy = NO_NETWORK
    elif anatomy_bundle is not None:
        with reporter.stage("anatomy", "finding the structures of the brain"):
            compute = _resolve_device(request)
            anatomy = find_anatomy(scan.volume, anatomy_bundle, compute, reporter)
    brain, warnings = _assess(
        scan, anatomy, detectors, reporter, needs_brain=not anatomy.is_doubted
    )
    compute = compute or _resolve_device(request)
    found = search(
        scan.volume,
        brain.mask,
        detectors,
        operating_point,
        compute=compute,
        is_precision_chosen=request.precision != "auto",
        stored_dtype=scan.stored_dtype,
        reporter=reporter,
    )
    detections, label_map, dropped = place_lesions(found.candidates, found.label_map, anatomy)
    return DetectionResult(
        detections=detections,
        label_map=label_map,
        brain_mask=brain.mask,
        provenance=describe_run(
            request=request,
            record=scan.record,
            volume=scan.volume,
            brain=brain,
            anatomy=anatomy.record,
            detectors=detectors,
            compute=compute,
            precision=found.precision,
            operating_point=operating_point,
            started_at=started_at,
            statistics=found.statistics,
            stage_seconds=dict(reporter.stage_seconds),
        ),
        warnings=_distinct(warnings + compute.warnings + found.warnings),
        probability=found.probability if request.save_probability else None,
        dropped=dropped,
        anatomy=anatomy.label_map,
    )


def _resolve_device(request: DetectionRequest) -> ComputeDevice:
    from CMBDetectorLib.inference.device import resolve_backend

    return resolve_backend(request.device, request.precision, request.backend)


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """Put the file's name before the message of an InputError that does not say it."""
    try:
        yield
    except InputError as error:
        if path.name in str(error):
            raise
        raise InputError(f"{path}: {error}") from error


def _distinct(warnings: tuple[ResultWarning, ...]) -> tuple[ResultWarning, ...]:
    return tuple(dict.fromkeys(warnings))
