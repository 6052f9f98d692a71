"""The command ``cmbdetector``: finds its subcommand, runs it, and turns errors into exit codes.

Exit codes: 0 ran (lesions or none), 1 a defect of this software, 2 usage, 3 input, 4 model or a
missing package, 5 device, 6 cancelled, 7 the results could not be written.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from CMBDetectorLib.cli import check, console, detect, evaluate, info, models
from CMBDetectorLib.errors import Cancelled, CMBDetectorError
from CMBDetectorLib.version import __version__

DESCRIPTION = "Find cerebral microbleeds on SWI and T2*-weighted brain MRI."
EPILOG = "Research software; not for clinical use."


def build_parser() -> console.OneLineParser:
    """The parser of the whole command; each subcommand adds its own."""
    parser = console.OneLineParser(prog="cmbdetector", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"cmbdetector {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (detect, check, evaluate, models, info):
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; ``argv`` is without the program's name. Returns the exit code.

    Without ``argv`` it is the program itself. A cancel ends it at once, and so does the end of the
    work where a parent process watches: Python's own shutdown takes a second or two once torch is
    loaded, and on some systems it never ends.
    """
    arguments = argparse.Namespace()
    code = _run(argv, arguments)
    is_watched = getattr(arguments, "watch_stdin", False)
    if argv is None and (is_watched or code == Cancelled.exit_code):
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return code


def _run(argv: Sequence[str] | None, arguments: argparse.Namespace) -> int:
    """Parse into ``arguments`` and run; returns the exit code."""
    console.prepare_streams()
    try:
        build_parser().parse_args(argv, arguments)
        code = int(arguments.command(arguments))
        sys.stdout.flush()
    except SystemExit as request:  # argparse, after --help or a usage error
        return request.code if isinstance(request.code, int) else 0
    except BrokenPipeError:  # the reader of our output, such as head, has had enough
        console.silence_stdout()
        return 0
    except KeyboardInterrupt:
        console.print_error(Cancelled("cancelled on request"))
        return Cancelled.exit_code
    except CMBDetectorError as error:
        console.print_error(error)
        return error.exit_code
    except Exception as defect:  # noqa: BLE001 - the outermost boundary: a defect is reported as one
        console.print_error(defect)
        if console.debug_wanted():
            traceback.print_exception(defect)
        return 1
    return code
