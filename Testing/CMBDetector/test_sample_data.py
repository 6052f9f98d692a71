"""The sample's entry in Sample Data: loadable without a network, and refused where it is stale."""

from __future__ import annotations

import hashlib
import sys
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from CMBDetectorSlicer.sample_data import CATEGORY, SAMPLE_NAME, registerSampleData


class SampleDataLogic:
    """With the parameters of 3D Slicer's own, so that another name is an error."""

    registered: list[dict[str, Any]]

    @classmethod
    def registerCustomSampleDataSource(
        cls,
        category: str = "Custom",
        sampleName: Any = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: Any = None,
        loadFileType: Any = "VolumeFile",
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
    ) -> None:
        cls.registered.append({k: v for k, v in locals().items() if k != "cls"})


@pytest.fixture
def source(app: object, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = ModuleType("SampleData")
    SampleDataLogic.registered = []
    module.SampleDataLogic = SampleDataLogic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", module)
    registerSampleData()
    (registered,) = SampleDataLogic.registered
    return registered


def testTheSampleIsCopiedAsSampleDataDoesIt(
    source: dict[str, Any], sample_scan: Path, tmp_path: Path
) -> None:
    cached = tmp_path / source["fileNames"]
    urllib.request.urlretrieve(source["uris"], cached)
    assert cached.read_bytes() == sample_scan.read_bytes()
    algorithm, digest = source["checksums"].split(":")
    assert algorithm == "SHA256"
    assert hashlib.sha256(cached.read_bytes()).hexdigest() == digest
    # The reader is chosen by the ending of the cached file's name.
    assert cached.name.endswith(".nii.gz")
    assert source["loadFileType"] == "VolumeFile"


def testTheSampleHasANameAndAPicture(source: dict[str, Any]) -> None:
    assert source["category"] == CATEGORY
    assert source["sampleName"] == source["nodeNames"] == SAMPLE_NAME
    assert Path(source["thumbnailFileName"]).read_bytes().startswith(b"\x89PNG")
