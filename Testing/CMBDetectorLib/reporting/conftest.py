from __future__ import annotations

import copy
import functools
import html.parser
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from CMBDetectorLib.evaluation.comparison import compare_cohorts
from CMBDetectorLib.evaluation.label_maps import lesions_from_labels
from CMBDetectorLib.evaluation.lesions import LesionSet
from CMBDetectorLib.evaluation.outcomes import ScanOutcome
from CMBDetectorLib.evaluation.rule import MatchingRule
from CMBDetectorLib.evaluation.scan import evaluate_scan
from CMBDetectorLib.evaluation.summary import summarize_cohort
from CMBDetectorLib.geometry import Geometry
from CMBDetectorLib.postprocessing.lesions import find_lesions
from CMBDetectorLib.reporting.document import INTENDED_USE
from CMBDetectorLib.reporting.evaluation_report import format_report
from CMBDetectorLib.reporting.evaluation_tiles import ErrorTile, draw_error_tiles
from CMBDetectorLib.results import DetectionResult, Provenance, ResultWarning
from CMBDetectorLib.review.session import ReviewSession
from CMBDetectorLib.settings import OperatingPoint
from CMBDetectorLib.volume import Volume

VOID = {"meta", "img", "br", "hr", "link", "input"}
MakeResult = Callable[..., tuple[DetectionResult, Volume]]


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(
        software_version="0.1.0",
        library_versions={"numpy": "2.0", "torch": "2.13"},
        platform="Linux",
        started_at="2025-01-02T03:04:05Z",
        input_name="sub-01_T2S.nii.gz",
        input_sha256="ab" * 32,
        input_shape=(60, 70, 40),
        input_spacing_mm=(0.9, 0.9, 1.5),
        input_axis_codes="LAS",
        input_affine=np.diag([-0.9, 0.9, 1.5, 1.0]).tolist(),
        volume_index=None,
        model_id="swi-unet",
        model_version="1.0",
        model_sha256={"models/a.safetensors": "cd" * 32},
        device="cpu",
        device_name="CPU",
        precision="fp32",
        threshold=0.5,
        min_volume_mm3=2.0,
        brain_mask_source="user file",
        brain_volume_ml=1200.5,
        settings={"grid": {"kind": "in_plane", "spacing_mm": 0.5}},
        stage_seconds={"read": 0.1, "inference": 12.5},
    )


@pytest.fixture
def make_result(provenance: Provenance) -> MakeResult:
    """A smooth head with dark lesions of known places, and the result of finding them all."""

    def make(
        centers_ras_mm: list[tuple[float, float, float]],
        *,
        geometry: Geometry | None = None,
        radius_mm: float = 2.5,
        warnings: tuple[str, ...] = (),
        keep_probability: bool = False,
    ) -> tuple[DetectionResult, Volume]:
        if geometry is None:
            affine = np.diag([-0.9, 0.9, 1.5, 1.0])
            affine[:3, 3] = (26.55, -31.05, -29.25)
            geometry = Geometry((60, 70, 40), affine)
        ras_mm = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
        mask = ((ras_mm / (24, 28, 26)) ** 2).sum(axis=-1) < 1
        image = np.where(mask, 100.0 + ras_mm[..., 1], 0.0)
        probability = np.zeros(geometry.shape, dtype=np.float32)
        for number, center in enumerate(centers_ras_mm):
            near = np.linalg.norm(ras_mm - center, axis=-1) <= radius_mm
            image[near] = 10.0
            probability[near] = 0.99 - 0.005 * number
        volume = Volume(probability, geometry)
        detections, label_map = find_lesions(volume, OperatingPoint(0.5, 0.0))
        result = DetectionResult(
            detections=detections,
            label_map=label_map,
            brain_mask=Volume(mask, geometry),
            provenance=provenance,
            warnings=tuple(ResultWarning("test", message) for message in warnings),
            probability=volume if keep_probability else None,
        )
        return result, Volume(image.astype(np.float32), geometry)

    return make


@pytest.fixture
def make_session(make_result: MakeResult) -> Callable[..., tuple[ReviewSession, Volume]]:
    """A review of what make_result finds, by "A. Reader" at a known time, and the image."""

    def make(
        centers_ras_mm: list[tuple[float, float, float]], **options: Any
    ) -> tuple[ReviewSession, Volume]:
        result, image = make_result(centers_ras_mm, **options)
        session = ReviewSession.start(
            result.detections,
            result.label_map,
            provenance=result.provenance,
            warnings=result.warnings,
            reader="A. Reader",
            now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        )
        return session, image

    return make


RULE = MatchingRule()
_CENTERS = ("Aarhus", "Bristol", "Cologne")


@dataclass(frozen=True)
class EvaluationDemo:
    """An evaluation of simulated lesions in smooth heads: its figures, scans, lesions, images."""

    metrics: dict[str, Any]
    outcomes: tuple[ScanOutcome, ...]
    lesions: tuple[tuple[LesionSet, LesionSet], ...]
    images: tuple[Volume, ...]

    @functools.cached_property
    def tiles(self) -> list[ErrorTile]:
        """Of all errors of all scans."""
        return [
            tile
            for outcome, (true, predicted), image in zip(
                self.outcomes, self.lesions, self.images, strict=True
            )
            for tile in draw_error_tiles(outcome, true, predicted, image)
        ]

    def changed(self, **parts: Any) -> dict[str, Any]:
        """The figures with other parts; ``detection__curves`` is that of ``detection``."""
        metrics = copy.deepcopy(self.metrics)
        for path, value in parts.items():
            *outer, last = path.split("__")
            target = metrics
            for key in outer:
                target = target[key]
            target[last] = value
        return metrics


@pytest.fixture(scope="session")
def evaluation_demo() -> EvaluationDemo:
    """24 scans of three centers, compared with a second prediction."""
    rng = np.random.default_rng(11)
    outcomes, others, lesions, images = [], [], [], []
    for number in range(24):
        geometry = head_geometry(slice_mm=(1.2, 2.5, 4.0)[number % 3])
        places = _places(rng, geometry, n_true=(0, 1, 0, 2, 1, 6, 12, 0)[number % 8])
        true = _lesions(geometry, [(place, rng.uniform(1.6, 5)) for place in places])
        found = [place for place in places if rng.random() < 0.65]
        guessed = [(place + rng.normal(0, 0.5, 3), rng.uniform(2, 5)) for place in found]
        guessed += [(place + np.array([3.6, 0, 0]), 2.0) for place in found if rng.random() < 0.2]
        false = _places(rng, geometry, n_true=int(rng.poisson(0.8)))
        guessed += [(place, rng.uniform(1.5, 4)) for place in false]
        attributes: dict[str, float | str] = {
            "slice_thickness_mm": geometry.spacing_mm[2],
            "center": _CENTERS[number // 8],
        }
        predicted = _lesions(geometry, guessed, rng)
        for target, part in ((outcomes, guessed), (others, guessed[::2])):
            made = predicted if target is outcomes else _lesions(geometry, part, rng)
            scan_id = f"sub-{number + 101}_T2starw"
            target.append(
                evaluate_scan(scan_id, true, made, RULE, has_scores=True, attributes=attributes)
            )
        lesions.append((true, predicted))
        images.append(head_image(geometry, true))
    metrics = {
        "schema": "cmbdetector-evaluation",
        "schema_version": 1,
        "intended_use": INTENDED_USE,
        "software_version": "0.1.0",
        "created_at": "2026-01-02T03:04:05Z",
        "inputs": {
            "truth": "data/derivatives/lesions",
            "prediction": "out/second",
            "compare_with": "out/first",
            "images": "data",
            "regions": None,
            "scan_table": "data/scans.tsv",
            "label": "Second network",
            "compare_label": "First network",
        },
        "rule": RULE.to_dict(),
        "bootstrap": {"resamples": 200, "seed": 0, "level": 0.95},
        "missing_predictions": "exclude",
        **summarize_cohort(outcomes, resamples=200, strata=["center"]),
        "comparison": compare_cohorts(
            outcomes,
            others,
            label_a="Second network",
            label_b="First network",
            permutations=200,
            resamples=200,
        ),
        "issues": [
            {
                "scan_id": "sub-131_T2starw",
                "file": "sub-131_T2starw.nii.gz",
                "code": "missing-prediction",
                "message": "no prediction for this scan; it is left out",
            },
            {
                "scan_id": "sub-102_T2starw",
                "file": None,
                "code": "empty-mask",
                "message": "the truth has no lesion",
            },
        ],
    }
    metrics["cohort"]["excluded_scans"] = 1
    return EvaluationDemo(metrics, tuple(outcomes), tuple(lesions), tuple(images))


def head_geometry(slice_mm: float = 2.0) -> Geometry:
    """A left-handed grid of 58 × 68 × 52 mm around the origin."""
    affine = np.diag([-0.8, 0.8, slice_mm, 1.0])
    shape = (72, 85, round(52 / slice_mm))
    affine[:3, 3] = -Geometry(shape, affine).center_ras_mm
    return Geometry(shape, affine)


def head_image(geometry: Geometry, lesions: LesionSet) -> Volume:
    """A bright ball that brightens toward the front, black around it, with dark lesions."""
    ras_mm = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    inside = ((ras_mm / (27, 31, 24)) ** 2).sum(axis=-1) < 1
    image = np.where(inside, 400.0 + 3 * ras_mm[..., 1] + 40 * np.sin(ras_mm[..., 0] / 3), 0.0)
    for voxels in lesions.voxels_ijk:
        image[tuple(voxels.T)] *= 0.2
    return Volume(image.astype(np.float32), geometry)


def _places(rng: np.random.Generator, geometry: Geometry, n_true: int) -> list[np.ndarray]:
    """Points well inside the head, at least 9 mm apart."""
    places: list[np.ndarray] = []
    while len(places) < n_true:
        place = rng.uniform((-16, -19, -14), (16, 19, 14))
        if all(np.linalg.norm(place - other) > 9 for other in places):
            places.append(place)
    return places


def _lesions(
    geometry: Geometry,
    balls: list[tuple[np.ndarray, float]],
    rng: np.random.Generator | None = None,
) -> LesionSet:
    """Balls given by center and diameter in mm as values of a label map; with scores by rng."""
    ras_mm = geometry.ijk_to_ras_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    labels = np.zeros(geometry.shape, dtype=np.int16)
    for number, (center_mm, diameter_mm) in enumerate(balls, start=1):
        distance_mm = np.linalg.norm(ras_mm - center_mm, axis=-1)
        labels[(distance_mm <= max(diameter_mm / 2, distance_mm.min())) & (labels == 0)] = number
    numbers = [number for number in range(1, len(balls) + 1) if (labels == number).any()]
    scores = None if rng is None else {number: float(rng.uniform(0.3, 1)) for number in numbers}
    rule = MatchingRule(lesions_are="values")
    return lesions_from_labels(Volume(labels, geometry), rule, scores=scores)


@dataclass
class Cell:
    text: str = ""
    values: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


class Page(html.parser.HTMLParser):
    """What a page holds, section by section; refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.section = ""
        self.text: dict[str, str] = {}
        self.rows: dict[str, list[list[Cell]]] = {}
        self.pictures: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._seen(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"<{tag}/> closes itself outside of an svg"
        self._seen(tag, attrs)

    def _seen(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        known = {name: value or "" for name, value in attrs}
        self.attributes += [(tag, name, value) for name, value in known.items()]
        if "id" in known:
            self.ids[known["id"]] += 1
        if tag == "section":
            self.section = known["id"]
        rows = self.rows.setdefault(self.section, [])
        if tag == "tr":
            rows.append([])
        elif tag in ("td", "th"):
            rows[-1].append(Cell())
        elif tag == "data" and rows and ("td" in self.open or "th" in self.open):
            rows[-1][-1].values.append(float(known["value"]))
        elif tag == "abbr" and "td" in self.open:
            rows[-1][-1].reasons.append(known["title"])
        elif tag == "img":
            self.pictures.setdefault(self.section, []).append(known["src"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        if "style" in self.open or "script" in self.open or "svg" in self.open:
            return
        self.text[self.section] = self.text.get(self.section, "") + data
        if "td" in self.open or "th" in self.open:
            self.rows[self.section][-1][-1].text += data

    def row(self, section: str, first: str) -> list[Cell]:
        """The first row of a section with that first cell."""
        return next(row for row in self.rows[section] if row and row[0].text == first)


@pytest.fixture(scope="session")
def demo_page(evaluation_demo) -> str:
    return format_report(evaluation_demo.metrics, evaluation_demo.outcomes, evaluation_demo.tiles)


@pytest.fixture(scope="session")
def page(demo_page: str) -> Page:
    return Page(demo_page)


@pytest.fixture(scope="session")
def report(evaluation_demo) -> Callable[..., Page]:
    """Makes a page of the demo with parts of its own; without the strata, which take longest."""

    def make(
        metrics: dict[str, Any] | None = None,
        outcomes: Sequence[ScanOutcome] | None = None,
        tiles: Iterable[ErrorTile] = (),
    ) -> Page:
        quicker = {**(metrics or evaluation_demo.metrics), "strata": []}
        return Page(format_report(quicker, outcomes or evaluation_demo.outcomes, tiles))

    return make


@pytest.fixture(scope="session")
def read_page() -> Callable[[str], Page]:
    return Page
