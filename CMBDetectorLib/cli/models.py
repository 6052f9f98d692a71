"""``cmbdetector models``: list, show, verify, add, import and remove models."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from CMBDetectorLib.cli import console, models_import
from CMBDetectorLib.errors import ModelError

if TYPE_CHECKING:
    from CMBDetectorLib.models.bundle import ModelBundle
    from CMBDetectorLib.models.library import AnyBundle

DESCRIPTION = "The models that are installed with the software or in the user's folder."
VERIFY_HELP = "check every file of models against its sha256"
ADD_HELP = "check a model and copy it to the user's folder"
REMOVE_HELP = "delete a model from the user's folder"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    parser = subparsers.add_parser(
        "models", help="list, show, import or remove models", description=DESCRIPTION
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="one line for each model")
    listing.set_defaults(command=run_list)
    showing = actions.add_parser("show", help="what a model is, and how it was made and measured")
    showing.add_argument("model", metavar="ID|PATH", nargs="?", help="default: the bundled one")
    showing.add_argument("--json", action="store_true", help="print its metadata.json")
    showing.set_defaults(command=run_show)
    verifying = actions.add_parser("verify", help=VERIFY_HELP, description=VERIFY_HELP)
    verifying.add_argument("models", metavar="ID|PATH", nargs="*", help="default: all installed")
    verifying.set_defaults(command=run_verify)
    adding = actions.add_parser("add", help=ADD_HELP, description=ADD_HELP)
    adding.add_argument("path", metavar="PATH", type=Path, help="folder of the model bundle")
    adding.set_defaults(command=run_add)
    models_import.add_parser(actions)
    removing = actions.add_parser("remove", help=REMOVE_HELP, description=REMOVE_HELP)
    removing.add_argument("model", metavar="ID", help="as models list shows it")
    removing.set_defaults(command=run_remove)


def run_list(arguments: argparse.Namespace) -> int:
    """Print id, kind, version, members, license and place of each model, damaged ones included."""
    from CMBDetectorLib.models.library import list_bundles, user_folder

    listings = list_bundles()
    if not listings:
        print(f"no model is installed; put bundles into {user_folder()}")
    for entry in listings:
        mark = " (default)" if entry.is_default else ""
        line = f"{entry.id}{mark}  {entry.kind}  {entry.source}  {entry.path}"
        print(console.one_line(line))
        if entry.bundle is not None:
            bundle = entry.bundle
            number = len(bundle.members)
            members = "1 member" if number == 1 else f"{number} members"
            print(f"  {bundle.name} {bundle.version}, {members}, {bundle.license}")
        else:
            print(console.one_line(f"  cannot be used: {entry.problem}"))
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Print a model's parameters and its card, or its metadata as JSON."""
    from CMBDetectorLib.models.library import find_any_bundle

    bundle = find_any_bundle(arguments.model)
    if arguments.json:
        print(json.dumps(dict(bundle.metadata), indent=2, ensure_ascii=False))
        return 0
    for name, value in _facts(bundle).items():
        print(console.one_line(f"{name:<20} {value}"))
    print()
    print(bundle.card.read_text(encoding="utf-8").strip())
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Check models; returns ModelError's exit code if one of them cannot be used."""
    from CMBDetectorLib.models.library import find_any_bundle, list_bundles

    targets = arguments.models or [str(entry.path) for entry in list_bundles()]
    if not targets:
        raise ModelError("no model is installed, so there is nothing to verify; give a path")
    exit_code = 0
    for target in targets:
        try:
            bundle = find_any_bundle(target)
        except ModelError as error:
            console.print_error(error)
            exit_code = error.exit_code
        else:
            print(console.one_line(f"{bundle.id} {bundle.version}: {len(bundle.sha256)} files ok"))
    return exit_code


def run_add(arguments: argparse.Namespace) -> int:
    """Install a bundle; one whose id is there already is refused."""
    from CMBDetectorLib.models.install import install_bundle

    bundle = install_bundle(arguments.path.expanduser())
    print(console.one_line(f"added {bundle.id} {bundle.version}: {bundle.root}"))
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Delete a model of the user's; those that come with the software stay."""
    from CMBDetectorLib.models.install import remove_bundle

    folder = remove_bundle(arguments.model)
    print(console.one_line(f"removed {arguments.model}: {folder}"))
    return 0


def _second_stage(bundle: ModelBundle) -> str:
    if bundle.second_stage is None:
        return "none"
    number = len(bundle.classifiers)
    classifiers = "1 classifier" if number == 1 else f"{number} classifiers"
    return f"{classifiers} from {bundle.second_stage.candidate_threshold} on"


def _facts(bundle: AnyBundle) -> dict[str, object]:
    from CMBDetectorLib.models.anatomy_bundle import AnatomyBundle
    from CMBDetectorLib.models.whole_head_bundle import WholeHeadBundle

    size = sum(path.stat().st_size for path in bundle.members) / 1e6
    facts: dict[str, object] = {
        "id": bundle.id,
        "name": bundle.name,
        "version": bundle.version,
        "license": bundle.license,
        "folder": Path(bundle.root),
        "network": bundle.architecture,
        "members": f"{len(bundle.members)}, {size:.1f} MB together",
    }
    if isinstance(bundle, AnatomyBundle):
        return facts | {
            "kind": "anatomy",
            "grid": f"isotropic, {bundle.spacing_mm} mm",
            "classes": ", ".join(bundle.classes),
        }
    point = bundle.operating_point
    if isinstance(bundle, WholeHeadBundle):
        shape = "x".join(str(n) for n in bundle.preprocessing.shape)
        return facts | {
            "kind": "detector of the whole head",
            "grid": f"isotropic, 1 mm, {shape} voxels around the brain",
            "threshold": f"above {point.threshold}",
            "smallest lesion": f"{point.min_volume_mm3} mm³",
            "masked": f"the {bundle.preprocessing.masking}",
            "source": ", ".join(one["name"] for one in bundle.source.get("files", [])),
            "cite": bundle.source.get("citation", ""),
        }
    grid = bundle.preprocessing.grid
    spacing = f"{grid.kind}, {grid.spacing_mm} mm"
    if grid.min_slice_spacing_mm is not None:
        spacing += f", slices at least {grid.min_slice_spacing_mm} mm"
    seen = bundle.training_range
    return facts | {
        "kind": "detector",
        "grid": spacing,
        "second stage": _second_stage(bundle),
        "threshold": point.threshold,
        "extent threshold": point.lowest,
        "smallest lesion": f"{point.min_volume_mm3} mm³",
        "trained in plane": "{} to {} mm".format(*seen.in_plane_spacing_mm),
        "trained slices": "{} to {} mm".format(*seen.slice_spacing_mm),
    }
