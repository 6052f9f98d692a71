"""Which Python packages are there and can really be imported.

What an installer has written down about a package says little about whether it works: files may be
damaged, or made for another Python. So each is imported, and what it says then is passed on.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
from dataclasses import dataclass

from CMBDetectorLib.errors import MissingDependencyError
from CMBDetectorLib.preflight import is_installed

# The name to install by, and what this software imports of it.
CORE_PACKAGES = {
    "numpy": ("numpy",),
    "scipy": ("scipy.ndimage",),
    "scikit-image": ("skimage.filters", "skimage.measure"),
    "nibabel": ("nibabel",),
    "pynrrd": ("nrrd",),
    "pillow": ("PIL.Image",),
}
INFERENCE_PACKAGES = {
    "torch": ("torch",),
    "monai": ("monai.networks.nets",),
    "safetensors": ("safetensors.numpy",),
}
PACKAGES = CORE_PACKAGES | INFERENCE_PACKAGES


@dataclass(frozen=True)
class PackageState:
    """A package's version, None if it is not installed, and why it cannot be used, else None."""

    version: str | None
    problem: str | None


def package_states() -> dict[str, PackageState]:
    """Import every package this software uses; none of them has to be there."""
    return {name: package_state(name) for name in PACKAGES}


def package_state(name: str) -> PackageState:
    """Import one of :data:`PACKAGES`."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = None
    try:
        # What packages print while they are imported is none of our output.
        with contextlib.redirect_stdout(io.StringIO()):
            for module in PACKAGES[name]:
                importlib.import_module(module)
    except (ImportError, OSError, AttributeError, RuntimeError, ValueError) as error:
        # A missing part, a library that does not load, parts of different versions or of another
        # numpy: each as the package's own code happens to notice it.
        if version is None:
            return PackageState(None, "not installed")
        lines = str(error).strip().splitlines()
        return PackageState(version, f"{type(error).__name__}: {lines[0] if lines else ''}")
    return PackageState(version, None)


def require_core_packages() -> None:
    """Raise MissingDependencyError, naming the missing ones, where an image cannot be read."""
    missing = [
        name
        for name, modules in CORE_PACKAGES.items()
        if not is_installed(modules[0].partition(".")[0])
    ]
    if missing:
        raise MissingDependencyError(
            f"{', '.join(missing)} is needed and not installed here; "
            "install with: python -m pip install cmbdetector"
        )
