"""How quick the 3D Slicer module's parts are, on Slicer's real core and the tests' stand-ins.

    python benchmarks/slicer_module.py

A head of 384×384×96 voxels. 500 lesions come into the scene as the module brings them (one label
map, one layer) and, beside that in the same run, one segment at a time, as scripts often do. Then
what a reader waits for with 1,000 lesions in the list.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "Testing" / "CMBDetector"
sys.path.insert(0, str(TESTS))

import conftest  # noqa: E402 - puts slicer, qt, ctk and the module in place
import numpy as np  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
from CMBDetectorSlicer.result_controller import ResultController  # noqa: E402
from CMBDetectorSlicer.result_nodes import ResultNodes  # noqa: E402
from review_scene import loadPanel  # noqa: E402
from sessions import addVolume, imageOf, makeSession  # noqa: E402

from CMBDetectorLib.geometry import Geometry  # noqa: E402
from CMBDetectorLib.review.session import ReviewSession  # noqa: E402

SHAPE = (384, 384, 96)
REPEATS = 5


def session(number: int) -> ReviewSession:
    """A review of so many balls on a lattice."""
    affine = np.diag([-0.5, 0.5, 1.5, 1.0])
    places = [
        (i, j, k) for k in range(8, 90, 9) for i in range(20, 370, 34) for j in range(20, 370, 34)
    ]
    assert len(places) >= number
    return makeSession(Geometry(SHAPE, affine), places[:number])


def fastest(action: Callable[[], object], repeats: int = REPEATS) -> float:
    """Seconds of the quickest of several runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def one_by_one(result: ReviewSession, image: object) -> None:
    """A segment at a time from an array, each in a layer of its own."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(image)
    labels = result.label_map.array.transpose(2, 1, 0)
    for lesion in result.lesions:
        segment_id = node.GetSegmentation().AddEmptySegment(f"CMB {lesion.id}")
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            (labels == lesion.id).astype(np.uint8), node, segment_id, image
        )
    slicer.mrmlScene.RemoveNode(node)


def report(what: str, seconds: float, note: str = "") -> None:
    print(f"{what:<58} {seconds * 1e3:8.0f} ms  {note}", flush=True)


def main() -> None:
    few = session(500)
    image = addVolume(imageOf(few))

    def bring() -> None:
        ResultNodes.create(image, few).remove()

    ours = fastest(bring)
    report("500 lesions: segments, points, table, review, removed again", ours)
    share = 25
    some = session(share)
    naive = fastest(lambda: one_by_one(some, image), 1) * 500 / share
    report("500 segments one by one (segments alone)", naive, f"from {share}; {naive / ours:.0f}×")
    nodes = ResultNodes.create(image, few)
    report("500 lesions: the review as after loading a scene", fastest(nodes.loadSession))
    nodes.remove()

    many = session(1000)
    ui = loadPanel()
    controller = ResultController(ui)
    controller.enter()
    nodes = ResultNodes.create(image, many)
    start = time.perf_counter()
    controller.open(nodes, many)
    qt.QApplication.processEvents()
    report("1,000 lesions: open the result, fill the list", time.perf_counter() - start)
    for what, action in (
        ("verdict, saved, next lesion, views centered", controller.review.accept),
        ("undo", controller.review.undo),
        ("select a line, views centered", lambda: controller.selectLesion(700)),
        ("hide or show the overlay", controller.display.toggleOverlay),
    ):

        def shown(action: Callable[[], object] = action) -> None:
            action()
            qt.QApplication.processEvents()

        report(f"1,000 lesions: {what}", fastest(shown))
    controller.exit()
    controller.close()


if __name__ == "__main__":
    _ = conftest
    main()
