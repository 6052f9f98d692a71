"""``python -m training``: from label maps and datasets to a model bundle, one step per command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from CMBDetectorLib.errors import CMBDetectorError

_COMMANDS = {
    "standardize": ("training.datasets.standardize", "bring a published dataset to one layout"),
    "analyze": ("training.analysis.command", "measure the lesions of a dataset"),
    "simulate": ("training.simulation.command", "simulate scans of heads with microbleeds"),
    "prepare": ("training.prepare", "bring simulated cases to the model's grid"),
    "train": ("training.train", "train one member of the ensemble"),
    "evaluate": ("training.evaluate", "run a model on whole cases and count what it finds"),
    "measure": ("training.measures.command", "take all development measures of a model"),
    "second-stage-collect": (
        "training.second_stage.collect",
        "collect what a model takes for lesions on prepared scans",
    ),
    "second-stage-train": (
        "training.second_stage.train",
        "train the classifier of the second stage",
    ),
    "second-stage-export": (
        "training.second_stage.export",
        "write a model bundle with a second stage",
    ),
    "export": ("training.export", "write trained members as a model bundle"),
    "anatomy-heads": ("training.anatomy.heads", "simulate heads for the anatomy network"),
    "anatomy-train": ("training.anatomy.train", "train the anatomy network"),
    "anatomy-export": ("training.anatomy.export", "write the anatomy network as a bundle"),
    "anatomy-measure": ("training.anatomy.measure", "measure the anatomy network"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or the error's own as in :mod:`CMBDetectorLib.errors`.

    Only the module of the command that is asked for is imported.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Standardize and analyze datasets; simulate, prepare, train, evaluate, export: "
        "how CMBDetector's models are made. Research software; not for clinical use.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked_for = arguments[0] if arguments else None
    for name, (module_name, summary) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == asked_for:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    parsed = parser.parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except CMBDetectorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped on request", file=sys.stderr)
        return 6


if __name__ == "__main__":
    sys.exit(main())
