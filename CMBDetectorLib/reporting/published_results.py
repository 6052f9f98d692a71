"""Published results of microbleed detection, as data: never to be ranked across rows.

Rows differ in scans, readers, sequences, matching rules and conventions. They say what has been
reported on what, no more. Figures are those of the publications, rounded as given there.
"""

from __future__ import annotations

from dataclasses import dataclass

RULE_NOT_RECORDED = "not recorded here; see the source"

NO_RANKING = (
    "These rows cannot be compared with one another, nor with this evaluation: each stands on its "
    "own scans, readers, sequences, matching rule and way of averaging, and a difference between "
    "two rows may come from any of these. They are in order of publication, not of merit. Only "
    "predictions evaluated on the same scans with the same rule can be compared."
)


@dataclass(frozen=True)
class PublishedResult:
    """What one publication reports on one set of scans; None where it does not.

    Attributes
    ----------
    work
        Name of the method, or its authors.
    year
        Of the publication.
    source
        Where it was published.
    cohort
        The scans it was tested on.
    scans, true_lesions
        How many.
    rule
        When a prediction counted as a true positive.
    precision, recall, f1, false_positives_per_scan
        As published.
    notes
        What to know before reading the row.
    """

    work: str
    year: int
    source: str
    cohort: str
    scans: int | None = None
    true_lesions: int | None = None
    rule: str = RULE_NOT_RECORDED
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    false_positives_per_scan: float | None = None
    notes: str = ""


_DOU = (
    'Dou et al., "Automatic detection of cerebral microbleeds from MR images via 3D convolutional '
    'neural networks", IEEE Transactions on Medical Imaging 35, 2016'
)
_KIM = (
    'Kim et al., "Toward automated detection of microbleeds with anatomical scale localization", '
    "arXiv 2306.13020, 2023"
)
_SUNDARESAN = (
    'Sundaresan et al., "Automated detection of cerebral microbleeds on MR images using knowledge '
    'distillation framework", Frontiers in Neuroinformatics 17, 2023'
)
_SHIVA = (
    'Tsuchida et al., "SHIVA-CMB: a deep-learning-based robust cerebral microbleed segmentation '
    'tool trained on multi-source T2*GRE- and susceptibility-weighted MRI", Scientific Reports 14, '
    "2024"
)
_VALDO = (
    'Sudre et al., "Where is VALDO? VAscular Lesions Detection and segmentatiOn challenge at '
    'MICCAI 2021", Medical Image Analysis 91, 2024'
)
_MICROBLEEDNET = (
    'del Pozo Lerida et al., "MicrobleedNet: a robust deep learning model to segment and detect '
    'cerebral microbleeds on MRI", MICCAI workshop, 2024'
)
_VALDO_RULE = "centers of mass at most 5 mm apart, one to one, 6-connected components"
_CENTER_RULE = "distance of the centers"

PUBLISHED_RESULTS: tuple[PublishedResult, ...] = (
    PublishedResult(
        "Dou et al.",
        2016,
        _DOU,
        "own scans, SWI",
        scans=50,
        true_lesions=117,
        precision=0.44,
        recall=0.93,
        false_positives_per_scan=2.7,
    ),
    PublishedResult(
        "Ferrer et al.",
        2023,
        "Ferrer et al., arXiv 2301.09322, 2023",
        "DOU (public part), SWI 3 T",
        precision=1.00,
        recall=0.50,
        f1=0.67,
        false_positives_per_scan=0.0,
    ),
    PublishedResult(
        "Kim et al.",
        2023,
        _KIM,
        "internal, SWI and phase",
        precision=0.85,
        recall=0.95,
        false_positives_per_scan=0.56,
    ),
    PublishedResult(
        "Kim et al.",
        2023,
        _KIM,
        "external, SWI and phase",
        precision=0.68,
        recall=0.93,
        false_positives_per_scan=1.44,
    ),
    PublishedResult(
        "Segmentation_CMB U-Net",
        2023,
        "del Pozo Lerida, research project, IT University of Copenhagen, 2023",
        "VALDO, T2*",
        precision=0.44,
        recall=0.71,
        f1=0.54,
        false_positives_per_scan=1.5,
    ),
    PublishedResult(
        "Sundaresan et al.",
        2023,
        _SUNDARESAN,
        "UK Biobank, SWI",
        scans=78,
        precision=0.59,
        recall=0.93,
        false_positives_per_scan=1.5,
    ),
    PublishedResult(
        "Sundaresan et al.",
        2023,
        _SUNDARESAN,
        "OXVASC, T2*",
        scans=74,
        precision=0.84,
        recall=0.90,
        false_positives_per_scan=0.9,
    ),
    PublishedResult(
        "Sundaresan et al.",
        2023,
        _SUNDARESAN,
        "DOU (public part), SWI 3 T",
        scans=20,
        precision=0.89,
        recall=0.87,
        f1=0.88,
        false_positives_per_scan=0.5,
    ),
    PublishedResult(
        "MicrobleedNet",
        2024,
        _MICROBLEEDNET,
        "DOU (public part), SWI 3 T",
        scans=20,
        true_lesions=74,
        rule=_CENTER_RULE,
        precision=0.84,
        recall=0.69,
        f1=0.76,
        false_positives_per_scan=0.50,
        notes="pooled from the published counts; the published 0.13 is per true lesion",
    ),
    PublishedResult(
        "MicrobleedNet",
        2024,
        _MICROBLEEDNET,
        "CEREBRIU CRB, thick slices",
        scans=18,
        true_lesions=127,
        rule=_CENTER_RULE,
        precision=0.70,
        recall=0.30,
        f1=0.42,
        false_positives_per_scan=0.89,
    ),
    PublishedResult(
        "SHIVA-CMB",
        2024,
        _SHIVA,
        "held-out scans of the training cohorts, T2* and SWI",
        scans=96,
        precision=0.82,
        recall=0.67,
        f1=0.74,
        false_positives_per_scan=0.6,
    ),
    PublishedResult(
        "SHIVA-CMB",
        2024,
        _SHIVA,
        "unseen cohort",
        precision=0.91,
        recall=0.67,
        f1=0.77,
        false_positives_per_scan=0.5,
    ),
    PublishedResult(
        "MixMicrobleedNet",
        2024,
        _VALDO,
        "VALDO test set, T2*: three cohorts",
        scans=147,
        rule=_VALDO_RULE,
        f1=0.684,
        notes="median over scans; .517 in SABRE, .778 in RSS, .667 in ALFA; challenge of 2021",
    ),
    PublishedResult(
        "CenSynCMB",
        2026,
        "CenSynCMB, 2026",
        "VALDO, T2*",
        precision=0.79,
        recall=0.75,
        f1=0.74,
    ),
    PublishedResult(
        "CenSynCMB",
        2026,
        "CenSynCMB, 2026",
        "AIBL (MOMENI), SWI 3 T",
        precision=0.56,
        recall=0.89,
        f1=0.65,
    ),
    PublishedResult(
        "nnU-Net",
        2026,
        "medRxiv preprint, 2026",
        "not recorded here; see the source",
        scans=264,
        precision=0.88,
        recall=0.77,
        false_positives_per_scan=0.58,
    ),
)
"""In order of publication, within a year by name."""
