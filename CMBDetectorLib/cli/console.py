"""What every subcommand needs of the terminal: encodings, one-line errors, a parser to match."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import warnings
from typing import NoReturn

from CMBDetectorLib.errors import CMBDetectorError

DEBUG_VARIABLE = "CMBDETECTOR_DEBUG"


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, as all our errors are."""

    def error(self, message: str) -> NoReturn:
        """Print the error on one line and leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {one_line(message)}; see: {self.prog} --help\n")


def debug_wanted() -> bool:
    """Whether the user asked for tracebacks and for the libraries' own warnings."""
    return os.environ.get(DEBUG_VARIABLE, "") not in {"", "0"}


def prepare_streams() -> None:
    """Make both streams UTF-8 and keep the libraries' own remarks off stderr.

    Our stderr holds our errors, warnings and progress. What the libraries say besides, such as
    deprecations, means nothing to a user and is shown with CMBDETECTOR_DEBUG=1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if not debug_wanted():
        warnings.simplefilter("ignore")
        logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)


def silence_stdout() -> None:
    """Send what is still buffered nowhere, so that Python's own flush at exit cannot fail."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


def one_line(text: str) -> str:
    """The text with line breaks and other control characters, as in file names, made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def error_message(error: BaseException) -> str:
    """What to tell the user: the message of an expected error, or that this is a defect."""
    if isinstance(error, CMBDetectorError):
        return one_line(str(error))
    return one_line(
        f"defect in cmbdetector ({type(error).__name__}: {error}); "
        f"please report it with the traceback that {DEBUG_VARIABLE}=1 shows"
    )


def print_error(error: BaseException) -> None:
    """One line on stderr."""
    sys.stderr.write(f"cmbdetector: error: {error_message(error)}\n")
    sys.stderr.flush()


def print_warning(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"cmbdetector: warning: {one_line(message)}\n")
    sys.stderr.flush()
