"""The bundled sample scan, as an entry of 3D Slicer's Sample Data module."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

CATEGORY = "CMB Detector"
SAMPLE_NAME = "CMBSample"


def samplePath() -> Path:
    """The simulated scan that comes with the library."""
    return Path(str(files("CMBDetectorLib"))) / "resources" / "samples" / "sample_t2star.nii.gz"


def registerSampleData() -> None:
    """List the sample; to be called once 3D Slicer has all its modules. No network is needed.

    Sample Data copies what it loads into a cache, under the name given here. The checksum keeps it
    from taking the copy of an older version of this software.
    """
    import SampleData

    path = samplePath()
    icons = Path(__file__).resolve().parent.parent / "Resources" / "Icons"
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE_NAME,
        thumbnailFileName=str(icons / f"{SAMPLE_NAME}.png"),
        uris=path.as_uri(),
        fileNames=f"CMBDetector_{path.name}",
        nodeNames=SAMPLE_NAME,
        checksums=f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
    )
