"""What the values of an anatomical label map mean: FreeSurfer's numbers, and what they stand for.

The numbers are those of FreeSurfer's color table, as FreeSurfer, FastSurfer, SynthSeg and SAMSEG
write them (``aseg``, ``aparc+aseg`` and ``aparc.DKTatlas+aseg`` with cortex 1000–2035, ``wmparc``
with white matter 3000–4035). Lobes are FreeSurfer's grouping of the Desikan–Killiany gyri: the
cingulate gyrus is frontal in front (rostral and caudal anterior) and parietal behind (posterior,
isthmus); the insula stands alone.

References
----------
FreeSurfer, ``FreeSurferColorLUT.txt`` and the wiki page CorticalParcellation (lobes). Desikan et
al., "An automated labeling system for subdividing the human cerebral cortex on MRI scans into gyral
based regions of interest", NeuroImage 31, 2006. Billot et al., "SynthSeg", Medical Image Analysis
86, 2023. Puonti et al., "Accurate and robust whole-head segmentation from magnetic resonance images
for individualized head modeling", NeuroImage 219, 2020: values from 501 outside the brain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal[
    "outside",
    "cerebrospinal fluid",
    "vessel",
    "lateral ventricle",
    "other ventricle",
    "choroid plexus",
    "cortex",
    "white matter",
    "basal ganglia",
    "thalamus",
    "ventral diencephalon",
    "internal capsule",
    "external capsule",
    "corpus callosum",
    "hippocampus and amygdala",
    "brainstem",
    "cerebellum",
    "unspecified tissue",
]
Side = Literal["left", "right", "none"]
Lobe = Literal["", "frontal", "parietal", "temporal", "occipital", "insula"]

PARENCHYMA: tuple[Kind, ...] = (
    "cortex",
    "white matter",
    "basal ganglia",
    "thalamus",
    "ventral diencephalon",
    "internal capsule",
    "external capsule",
    "corpus callosum",
    "hippocampus and amygdala",
    "brainstem",
    "cerebellum",
)
"""Tissue that a zone can be told of."""
BRAIN: tuple[Kind, ...] = (
    *PARENCHYMA,
    "unspecified tissue",
    "lateral ventricle",
    "other ventricle",
    "choroid plexus",
    "vessel",
)
"""Tissue and ventricles, without the fluid around them."""


@dataclass(frozen=True)
class Structure:
    """What one value stands for.

    Attributes
    ----------
    name
        FreeSurfer's name, for example ``Left-Putamen`` or ``ctx-rh-insula``.
    kind
        The tissue, as the rules of location ask for it.
    side
        Of structures that exist twice; ``none`` for those across the midline.
    lobe
        Of parcellated cortex and white matter; empty where the value does not say.
    """

    name: str
    kind: Kind
    side: Side = "none"
    lobe: Lobe = ""


# Left value, right value, name without the side, kind.
_PAIRS: tuple[tuple[int, int, str, Kind], ...] = (
    (2, 41, "Cerebral-White-Matter", "white matter"),
    (3, 42, "Cerebral-Cortex", "cortex"),
    (4, 43, "Lateral-Ventricle", "lateral ventricle"),
    (5, 44, "Inf-Lat-Vent", "lateral ventricle"),
    (7, 46, "Cerebellum-White-Matter", "cerebellum"),
    (8, 47, "Cerebellum-Cortex", "cerebellum"),
    (9, 48, "Thalamus-unused", "thalamus"),
    (10, 49, "Thalamus", "thalamus"),
    (11, 50, "Caudate", "basal ganglia"),
    (12, 51, "Putamen", "basal ganglia"),
    (13, 52, "Pallidum", "basal ganglia"),
    (17, 53, "Hippocampus", "hippocampus and amygdala"),
    (18, 54, "Amygdala", "hippocampus and amygdala"),
    (25, 57, "Lesion", "white matter"),
    (26, 58, "Accumbens-area", "basal ganglia"),
    (27, 59, "Substancia-Nigra", "brainstem"),
    (28, 60, "VentralDC", "ventral diencephalon"),
    (29, 61, "undetermined", "unspecified tissue"),
    (30, 62, "vessel", "vessel"),
    (31, 63, "choroid-plexus", "choroid plexus"),
    (34, 66, "WMCrowns", "white matter"),
    (75, 76, "Lateral-Ventricles", "lateral ventricle"),
    (78, 79, "WM-hypointensities", "white matter"),
    (81, 82, "non-WM-hypointensities", "unspecified tissue"),
    (96, 97, "Amygdala-Anterior", "hippocampus and amygdala"),
    (136, 137, "Caudate/Putamen", "basal ganglia"),
    (138, 139, "Claustrum", "external capsule"),
    (155, 156, "IntCapsule-Ant", "internal capsule"),
    (157, 158, "IntCapsule-Pos", "internal capsule"),
    (159, 160, "Cerebral-WM-unmyelinated", "white matter"),
    (161, 162, "Cerebral-WM-myelinated", "white matter"),
    (169, 176, "Basal-Ganglia", "basal ganglia"),
    (180, 181, "Cortical-Dysplasia", "cortex"),
    (183, 184, "Vermis-Area", "cerebellum"),
    (5001, 5002, "UnsegmentedWhiteMatter", "white matter"),
)
_SINGLE: tuple[tuple[int, str, Kind], ...] = (
    (0, "Unknown", "outside"),
    (14, "3rd-Ventricle", "other ventricle"),
    (15, "4th-Ventricle", "other ventricle"),
    (16, "Brain-Stem", "brainstem"),
    (24, "CSF", "cerebrospinal fluid"),
    (72, "5th-Ventricle", "other ventricle"),
    (77, "WM-hypointensities", "white matter"),
    (80, "non-WM-hypointensities", "unspecified tissue"),
    (85, "Optic-Chiasm", "unspecified tissue"),
    (86, "Corpus_Callosum", "corpus callosum"),
    (98, "Dura", "outside"),
    (122, "CSF-SA", "cerebrospinal fluid"),
    (165, "Skull", "outside"),
    (167, "Scalp", "outside"),
    (168, "Hematoma", "unspecified tissue"),
    (170, "brainstem", "brainstem"),
    (171, "DCG", "cerebellum"),
    (172, "Vermis", "cerebellum"),
    (173, "Midbrain", "brainstem"),
    (174, "Pons", "brainstem"),
    (175, "Medulla", "brainstem"),
    (177, "Vermis-White-Matter", "cerebellum"),
    (178, "SCP", "brainstem"),
    (179, "Floculus", "cerebellum"),
    (182, "CblumNodulus", "cerebellum"),
    (192, "Corpus_Callosum", "corpus callosum"),
    (250, "Fornix", "white matter"),
    (251, "CC_Posterior", "corpus callosum"),
    (252, "CC_Mid_Posterior", "corpus callosum"),
    (253, "CC_Central", "corpus callosum"),
    (254, "CC_Mid_Anterior", "corpus callosum"),
    (255, "CC_Anterior", "corpus callosum"),
    (257, "CSF-ExtraCerebral", "cerebrospinal fluid"),
    (267, "Pons-Belly-Area", "brainstem"),
)
_GYRI: tuple[tuple[str, Lobe], ...] = (
    ("unknown", ""),
    ("bankssts", "temporal"),
    ("caudalanteriorcingulate", "frontal"),
    ("caudalmiddlefrontal", "frontal"),
    ("corpuscallosum", ""),
    ("cuneus", "occipital"),
    ("entorhinal", "temporal"),
    ("fusiform", "temporal"),
    ("inferiorparietal", "parietal"),
    ("inferiortemporal", "temporal"),
    ("isthmuscingulate", "parietal"),
    ("lateraloccipital", "occipital"),
    ("lateralorbitofrontal", "frontal"),
    ("lingual", "occipital"),
    ("medialorbitofrontal", "frontal"),
    ("middletemporal", "temporal"),
    ("parahippocampal", "temporal"),
    ("paracentral", "frontal"),
    ("parsopercularis", "frontal"),
    ("parsorbitalis", "frontal"),
    ("parstriangularis", "frontal"),
    ("pericalcarine", "occipital"),
    ("postcentral", "parietal"),
    ("posteriorcingulate", "parietal"),
    ("precentral", "frontal"),
    ("precuneus", "parietal"),
    ("rostralanteriorcingulate", "frontal"),
    ("rostralmiddlefrontal", "frontal"),
    ("superiorfrontal", "frontal"),
    ("superiorparietal", "parietal"),
    ("superiortemporal", "temporal"),
    ("supramarginal", "parietal"),
    ("frontalpole", "frontal"),
    ("temporalpole", "temporal"),
    ("transversetemporal", "temporal"),
    ("insula", "insula"),
)
# SAMSEG and head models: eyes, bone, skin, muscles, air.
_OUTSIDE_RANGES = (range(118, 136), range(140, 155), range(258, 267), range(501, 531))
_OUTSIDE_SAMSEG = (902, 907, 908, 909, 911, 914, 915, 916, 930)
_HEAD_MODEL = range(501, 531)
# In head label maps these line the lateral ventricles; FreeSurfer gives them another meaning.
_IN_HEAD_MODEL: Mapping[int, Structure] = {
    136: Structure("Left-choroid-plexus", "choroid plexus", "left"),
    137: Structure("Left-choroid-plexus", "choroid plexus", "left"),
    163: Structure("Right-choroid-plexus", "choroid plexus", "right"),
    164: Structure("Right-choroid-plexus", "choroid plexus", "right"),
}


def _table() -> dict[int, Structure]:
    table: dict[int, Structure] = {}
    for numbers in (*_OUTSIDE_RANGES, _OUTSIDE_SAMSEG):
        table |= {value: Structure(f"Extracerebral-{value}", "outside") for value in numbers}
    table |= {value: Structure(name, kind) for value, name, kind in _SINGLE}
    sides: tuple[Side, ...] = ("left", "right")
    for left, right, name, kind in _PAIRS:
        for value, side in zip((left, right), sides, strict=True):
            table[value] = Structure(f"{side.capitalize()}-{name}", kind, side)
    for base, prefix, kind in ((1000, "ctx", "cortex"), (3000, "wm", "white matter")):
        for offset, side in zip((0, 1000), sides, strict=True):
            for number, (gyrus, lobe) in enumerate(_GYRI):
                tissue: Kind = "corpus callosum" if gyrus == "corpuscallosum" else kind
                name = f"{prefix}-{side[0]}h-{gyrus}"
                table[base + offset + number] = Structure(name, tissue, side, lobe)
    return table


STRUCTURES: Mapping[int, Structure] = MappingProxyType(_table())
"""Every value that is known, by FreeSurfer's color table."""


def structures_in(values: npt.ArrayLike) -> dict[int, Structure]:
    """What the values of one map stand for; values that are not known are left out.

    Head label maps (with tissue outside the brain at 501–530) use 136, 137, 163 and 164 for the
    choroid plexus, which FreeSurfer's table does not.

    >>> structures_in([12, 4711])[12].kind
    'basal ganglia'
    """
    present = [int(value) for value in np.asarray(values).ravel()]
    is_head_model = any(value in _HEAD_MODEL for value in present)
    table = {**STRUCTURES, **_IN_HEAD_MODEL} if is_head_model else STRUCTURES
    return {value: table[value] for value in present if value in table}
