"""What the words of an evaluation report mean, and where the measures come from."""

from __future__ import annotations

from CMBDetectorLib.reporting.evaluation_html import escaped, section

TERMS: tuple[tuple[str, str], ...] = (
    (
        "True positive, false positive, false negative (TP, FP, FN)",
        "A predicted lesion matched with a true one by the rule named at the top; a predicted "
        "lesion without one of its own; a true lesion without a prediction. Matching is one to "
        "one: as many pairs as possible, and among these the closest. The default rule is that of "
        "the VALDO challenge [9].",
    ),
    (
        "Second hit",
        "A false positive that meets the rule with a true lesion which another prediction was "
        "given. It is counted as a false positive, and named so that it can be told apart.",
    ),
    ("Precision", "TP / (TP + FP): the share of predictions that are right."),
    ("Recall", "TP / (TP + FN): the share of true lesions that were found; also sensitivity."),
    ("F1", "2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall."),
    (
        "False positives per scan",
        "FP over the number of all scans, those without a true lesion included.",
    ),
    (
        "False positives per true lesion",
        "FP over the number of true lesions. Some publications call this figure false positives "
        "per scan.",
    ),
    (
        "Pooled, per scan",
        "Pooled: computed once from the lesions of all scans together, so that scans with many "
        "lesions weigh more. Per scan: computed in every scan, then averaged over scans.",
    ),
    (
        "Undefined skipped, zero-filled",
        "What the mean over scans does with a scan in which the figure is undefined: it leaves "
        "the scan out, or counts 0.",
    ),
    (
        "FROC",
        "Free-response receiver operating characteristic: recall over false positives per scan "
        "as the threshold on the score falls [1].",
    ),
    (
        "Average precision",
        "The area under the curve of precision over recall, up to the highest recall reached.",
    ),
    (
        "Dice",
        "Twice the shared volume over the sum of the two volumes: 1 is the same mask, 0 no shared "
        "voxel [2]. Of matched pairs, or of the whole masks of a scan.",
    ),
    (
        "Surface distance, Hausdorff distance",
        "The mean distance from each surface to the other, both ways; and the 95th percentile of "
        "these distances [3].",
    ),
    (
        "Sensitivity, specificity, predictive values",
        "Of scans with at least a number of true lesions, the share called so; of the other "
        "scans, the share not called so; of the scans called so, the share that are; of the "
        "scans not called so, the share that are not.",
    ),
    (
        "ICC",
        "Intraclass correlation of the two counts of a scan: two-way, absolute agreement, single "
        "measurement [4].",
    ),
    (
        "Bias and limits of agreement",
        "Mean of predicted minus true count, and that mean ± 1.96 standard deviations [5].",
    ),
    (
        "Weighted kappa",
        "Agreement of the classes of counts beyond chance, where classes further apart weigh "
        "more [6].",
    ),
    (
        "95 % interval",
        "From the 2.5th to the 97.5th percentile of the figure over bootstrap resamples: as many "
        "scans drawn with replacement [7]. Scans of one patient are not kept together.",
    ),
    (
        "p value",
        "How often a difference at least as large arises when the two predictions of each scan "
        "are exchanged at random.",
    ),
    (
        "Equivalent diameter",
        "Diameter of the ball of the same volume, in mm.",
    ),
    (
        "Lobar, deep, infratentorial",
        "Zones of the Microbleed Anatomical Rating Scale [8].",
    ),
)

REFERENCES: tuple[str, ...] = (
    "Bunch et al., A free-response approach to the measurement and characterization of "
    "radiographic-observer performance. J Appl Photogr Eng 4, 1978.",
    "Dice, Measures of the amount of ecologic association between species. Ecology 26, 1945.",
    "Maier-Hein et al., Metrics reloaded: recommendations for image analysis validation. "
    "Nat Methods 21, 2024.",
    "McGraw and Wong, Forming inferences about some intraclass correlation coefficients. "
    "Psychol Methods 1, 1996.",
    "Bland and Altman, Statistical methods for assessing agreement between two methods of "
    "clinical measurement. Lancet 327, 1986.",
    "Cohen, Weighted kappa: nominal scale agreement with provision for scaled disagreement or "
    "partial credit. Psychol Bull 70, 1968.",
    "Efron and Tibshirani, An introduction to the bootstrap. Chapman and Hall, 1993.",
    "Gregoire et al., The Microbleed Anatomical Rating Scale (MARS): reliability of a tool to map "
    "brain microbleeds. Neurology 73, 2009.",
    "Sudre et al., Where is VALDO? VAscular Lesions Detection and segmentatiOn challenge at "
    "MICCAI 2021. Med Image Anal 91, 2024.",
)


def glossary_section() -> str:
    """All terms with their definitions, then the references."""
    terms = "".join(f"<dt>{escaped(term)}</dt><dd>{escaped(words)}</dd>" for term, words in TERMS)
    items = "".join(f"<li>{escaped(reference)}</li>" for reference in REFERENCES)
    return section(
        "terms",
        "Terms",
        f'<dl class="terms">{terms}</dl>',
        f'<h3>References</h3><ol class="references">{items}</ol>',
    )
