"""A case on disk, scan and results, as a scene in one file (.mrb) that opens ready for review."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from CMBDetectorLib.errors import InputError, OutputError
from CMBDetectorSlicer import views
from CMBDetectorSlicer.location_text import isAnatomyUsed
from CMBDetectorSlicer.result_nodes import ResultNodes
from CMBDetectorSlicer.volumes import toMatrix


def writeCaseScene(scanPath: Path, results: Mapping[str, Path], scenePath: Path) -> str:
    """Make a scene of a scan and what the command line found in it; returns the finding in words.

    The application's scene is emptied before and after. An existing file is replaced. ``results``
    has the paths of ``labels``, ``document`` and ``picture``, and that of ``anatomy`` if one was
    asked for.

    Raises
    ------
    InputError
        If a file cannot be read, or scan and results do not belong together.
    OutputError
        If the scene cannot be written; no part of it is left.
    """
    slicer.mrmlScene.Clear(False)
    try:
        finding = _fillScene(scanPath, results)
        _writeScene(scenePath)
    finally:
        slicer.mrmlScene.Clear(False)
    return finding


def _fillScene(scanPath: Path, results: Mapping[str, Path]) -> str:
    from CMBDetectorLib.io.reading import read_image
    from CMBDetectorLib.reporting.document import read_document
    from CMBDetectorLib.results import DetectionResult
    from CMBDetectorLib.review.session import ReviewSession

    # The library's own reader: the volume is the one that was searched, on the same grid.
    image = read_image(scanPath).volume
    document = read_document(results["document"])
    labels = read_image(results["labels"]).volume
    if not labels.geometry.is_close(image.geometry):
        raise InputError(
            f"{results['labels']}: lies on another grid than {scanPath}; "
            "remove the results and search again"
        )
    labels = image.with_array(labels.array.astype(np.int32))
    session = ReviewSession.start(
        document.detections,
        labels,
        provenance=document.provenance,
        warnings=document.warnings,
        dropped=document.dropped,
    )
    volumeNode = _addVolume(image, scanPath)
    hasAnatomy = "anatomy" in results and isAnatomyUsed(document.provenance)
    anatomy = read_image(results["anatomy"]).volume if hasAnatomy else None
    nodes = ResultNodes.create(volumeNode, session, _bytesOf(results["picture"]), anatomy)
    views.showVolume(volumeNode)
    _selectInPanel(volumeNode, nodes)
    result = DetectionResult(
        document.detections, labels, labels, document.provenance, document.warnings
    )
    return result.finding


def _addVolume(image: Any, scanPath: Path) -> Any:
    from CMBDetectorLib.reporting.outputs import output_stem

    # numpy's last axis is the first one of VTK's.
    voxels = np.ascontiguousarray(image.array.transpose(2, 1, 0))
    matrix = toMatrix(image.geometry.affine)
    return slicer.util.addVolumeFromArray(voxels, matrix, output_stem(scanPath))


def _selectInPanel(volumeNode: Any, nodes: ResultNodes) -> None:
    """Whoever loads the scene and opens the module finds the result open."""
    from CMBDetector import CMBDetectorLogic

    parameters = CMBDetectorLogic().getParameterNode()
    parameters.inputVolume = volumeNode
    parameters.result = nodes.textNode


def _writeScene(scenePath: Path) -> None:
    try:
        scenePath.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that the last step is a rename; with its own name, which is also
        # that of the folder inside it.
        folder = Path(tempfile.mkdtemp(prefix=".cmb-", dir=scenePath.parent))
    except OSError as error:
        raise OutputError(_problem(scenePath, error)) from error
    try:
        made = folder / scenePath.name
        if not slicer.mrmlScene.WriteToMRB(str(made)) or not made.is_file():
            raise OutputError(
                f"{scenePath}: the scene could not be written; free space on the disk, or choose "
                "another output folder"
            )
        made.replace(scenePath)
    except OSError as error:
        raise OutputError(_problem(scenePath, error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _problem(path: Path, error: OSError) -> str:
    return f"{path}: cannot be written ({error.strerror}); choose another output folder"


def _bytesOf(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; search again") from error
