"""Search many scans without a window.

    Slicer --no-splash --no-main-window --python-script batch_detect.py INPUT... OUTPUT_DIR [MODEL]
        [-- --anatomy auto|none|FILE] [--save-anatomy]

An INPUT is an image or a folder of images. Every image gets what the command line writes, and a
scene (.mrb) that opens ready for review. Options come last, after "--": 3D Slicer keeps those
before it for itself. See docs/slicer.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import slicer

exitCode = 1
try:
    # The module is on the path where it is installed or listed among the module paths; the script
    # also works from a checkout that 3D Slicer does not know.
    module = Path(__file__).resolve().parents[1]
    for folder in (module.parent, module):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))

    from CMBDetectorSlicer.batch import runBatch

    exitCode = runBatch(sys.argv[1:])
finally:
    # 3D Slicer would wait for ever after a script that ended in an error.
    slicer.util.exit(exitCode)
