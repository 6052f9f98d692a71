"""Under which terms a model of others may be used, as far as that is known."""

from __future__ import annotations

from dataclasses import dataclass

from CMBDetectorLib.importing.model_info import ModelInfo

SHIVA_CITATION = (
    "Tsuchida A, Goubet M, Boutinaud P, et al. SHIVA-CMB: a deep-learning-based robust cerebral "
    "microbleed segmentation tool trained on multi-source T2*GRE- and susceptibility-weighted "
    "MRI. Scientific Reports 14 (2024). https://doi.org/10.1038/s41598-024-81870-5"
)
SHIVA_URL = "https://github.com/pboutinaud/SHIVA_CMB"
UNKNOWN_LICENSE = "LicenseRef-not-stated"
_SHIVA_AUTHOR = "boutinaud"
_SHIVA_FILES = {
    "cc5e9c4a75796020e63d54a9fb584abb": "v1",
    "358e3bce66fe9e502862abf43e4bfb1f": "v1",
    "da32ad7ebd2f3944449009df27c81147": "v1",
    "a5ae990416b0149097e1698e2e28b00a": "v2",
    "23fd23c83a9b30fe6dab7bef5f3277ce": "v2",
    "667370eb8997718b4a8cd9e89d6c1bdd": "v2",
}
"""The sums that the authors have published for the networks of their releases."""


@dataclass(frozen=True)
class Terms:
    """What a model says, or its authors, about who made it and who may use it.

    ``license`` is an SPDX expression; ``notice`` is for the person who has to accept it.
    """

    id: str
    name: str
    version: str
    authors: str
    license: str
    notice: str
    citation: str = ""
    url: str = ""


def terms_of(info: ModelInfo | None, md5_sums: tuple[str, ...], fallback_id: str) -> Terms:
    """The terms of a model.

    Parameters
    ----------
    info
        What comes with the model, if anything does.
    md5_sums
        Of its networks; SHIVA's are recognized by them.
    fallback_id
        Id of a model that nothing is known of.
    """
    releases = {_SHIVA_FILES[one] for one in md5_sums if one in _SHIVA_FILES}
    if len(releases) == 1 and all(one in _SHIVA_FILES for one in md5_sums):
        return _shiva(releases.pop(), info)
    if info is not None and _SHIVA_AUTHOR in info.author.casefold():
        return _shiva(info.version or "unknown", info)
    return Terms(
        id=fallback_id,
        name=fallback_id,
        version=(info.version if info is not None else "") or "unknown",
        authors=(info.author if info is not None else "") or "unknown",
        license=UNKNOWN_LICENSE,
        notice=(
            "The model does not state a license. You may use it only if its authors allow it; "
            "find out before you accept."
        ),
        url=(info.url if info is not None else None) or "",
    )


def _shiva(version: str, info: ModelInfo | None) -> Terms:
    return Terms(
        id=f"shiva-cmb-{version}",
        name=f"SHIVA-CMB {version}",
        version=version,
        authors=(info.author if info is not None else "") or "Philippe Boutinaud",
        license="CC-BY-NC-SA-4.0",
        notice=(
            "SHIVA-CMB is under the Creative Commons license Attribution-NonCommercial-ShareAlike "
            "4.0 International (https://creativecommons.org/licenses/by-nc-sa/4.0/): no "
            "commercial use, and what you make of it under the same license. It is not for "
            f"clinical use. Cite: {SHIVA_CITATION}"
        ),
        citation=SHIVA_CITATION,
        url=SHIVA_URL,
    )
