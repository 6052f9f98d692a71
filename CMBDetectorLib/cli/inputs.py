"""What the INPUTs of a command stand for: images, or folders of images.

A folder stands for every NIfTI and NRRD image in it and below it, in the order of their paths.
Left out are hidden files and folders, this software's own results, and files that are called a
mask or a segmentation, as ``scan_mask.nii.gz`` or ``scan_seg.nrrd``. The results of an image from a
folder go to the same subfolder of the output folder. That is so whether or not names would collide
otherwise: the place of a result does not change when more images arrive.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from CMBDetectorLib.cli.argument_types import anatomy, whole_number
from CMBDetectorLib.errors import InputError, UsageError

# As in CMBDetectorLib.io.reading, which this does not import: --help is quick without numpy.
IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".hdr")
MASK_WORDS = frozenset(
    {"brainmask", "dseg", "label", "labelmap", "labels", "lesion", "lesions", "mask", "masks"}
    | {"probseg", "roi", "seg", "segmentation", "segmentations"}
)
_OWN_RESULT = re.compile(
    r"_cmb(_reviewed)?(_labels|_probability|_anatomy)?(\.seg)?$", re.IGNORECASE
)


@dataclass(frozen=True)
class ScanInput:
    """An image to work on; ``subfolder`` is its place below the folder that stood for it."""

    path: Path
    subfolder: Path = Path()


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Declare the inputs, and what tells how to read them."""
    add = parser.add_argument
    add(
        "inputs",
        metavar="INPUT",
        nargs="+",
        type=Path,
        help="NIfTI-1/2 or NRRD magnitude image, or a folder of them",
    )
    add("--brain-mask", metavar="FILE", type=Path, help="brain mask, on any grid in the same space")
    add(
        "--anatomy",
        metavar="auto|none|FILE",
        type=anatomy,
        default="auto",
        help="where lesions lie is told by a network (auto), by nothing, or by a label map in "
        "FreeSurfer's values (SynthSeg, FastSurfer), on any grid in the same space",
    )
    add("--volume-index", metavar="N", type=whole_number, help="which volume of a 4D image, from 0")


def refuse_shared_files(arguments: argparse.Namespace, n_inputs: int) -> None:
    """Raise UsageError where one brain mask or anatomy file is given for several images."""
    for option, what, given in (
        ("--brain-mask", "mask", arguments.brain_mask),
        ("--anatomy", "anatomy", arguments.anatomy),
    ):
        if isinstance(given, Path) and n_inputs > 1:
            raise UsageError(
                f"{option} is the {what} of one image, got {n_inputs} inputs; "
                f"run them one by one, each with its own {what}"
            )


def expand_inputs(inputs: Sequence[Path]) -> list[ScanInput]:
    """The images that the inputs stand for, in order; what is no folder is left as it is.

    Raises
    ------
    InputError
        If there is no image in a folder, or a folder cannot be read.
    """
    expanded: list[ScanInput] = []
    for given in inputs:
        if not _is_folder(given):
            expanded.append(ScanInput(given))
            continue
        found = [ScanInput(path, path.parent.relative_to(given)) for path in images_in(given)]
        if not found:
            raise InputError(
                f"{given}: no image is in this folder, expected files ending in "
                f"{', '.join(IMAGE_SUFFIXES)}; DICOM series are converted first, for example "
                "with dcm2niix, and a mask or a result of this software is not taken for an image"
            )
        expanded += found
    return expanded


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long: reading it tells what is wrong
        return False


def images_in(folder: Path) -> Iterator[Path]:
    """The images in a folder and below it, in the order of their paths."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: the folder cannot be read ({error.strerror}); "
            "ask for read access, or pass the images themselves"
        ) from error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in names if is_image_name(name)]
    return iter(sorted(found))


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image to search."""
    lower = name.lower()
    suffix = max((s for s in IMAGE_SUFFIXES if lower.endswith(s)), key=len, default="")
    stem = lower.removesuffix(suffix)
    if not suffix or not stem or name.startswith("."):
        return False
    return not _OWN_RESULT.search(stem) and re.split(r"[\s_.-]+", stem)[-1] not in MASK_WORDS
