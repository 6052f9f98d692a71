"""Errors that a user can act on.

Every message says what was got, what was expected and what to do. The command line prints the
message on one line and exits with the class's ``exit_code``; anything that is not a
:class:`CMBDetectorError` is a defect of this software and exits with 1. ``code`` is the kind of
error in a word, for programs.
"""

from __future__ import annotations


class CMBDetectorError(Exception):
    """Base of all errors that are not defects of this software."""

    exit_code: int = 1
    code: str = "defect"


class UsageError(CMBDetectorError):
    """The request contradicts itself or would overwrite something."""

    exit_code = 2
    code = "usage"


class InputError(CMBDetectorError):
    """The image or the brain mask cannot be used as it is."""

    exit_code = 3
    code = "input"


class ModelError(CMBDetectorError):
    """The model bundle is missing, damaged, or not one this version can run."""

    exit_code = 4
    code = "model"


class DeviceError(CMBDetectorError):
    """The requested computing device is not there or cannot do the work."""

    exit_code = 5
    code = "device"


class Cancelled(CMBDetectorError):
    """The run was stopped on request; nothing was written."""

    exit_code = 6
    code = "cancelled"


class OutputError(CMBDetectorError):
    """The results could not be written; nothing partial was left behind."""

    exit_code = 7
    code = "output"


class MissingDependencyError(CMBDetectorError):
    """An optional package is needed for the requested feature and is not installed."""

    exit_code = 4
    code = "missing_dependency"
