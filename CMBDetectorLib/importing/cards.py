"""The model card and the license file of an imported model."""

from __future__ import annotations

from typing import Any

from CMBDetectorLib.importing.sources import ModelSource
from CMBDetectorLib.importing.terms import Terms
from CMBDetectorLib.models.description import ModelDescription

_LARGEST_LICENSE_BYTES = 2**18


def model_card(
    manifest: ModelDescription, record: dict[str, Any], terms: Terms, preparation: str
) -> str:
    """What is known of the model, Markdown."""
    files = "\n".join(f"| `{one['name']}` | `{one['md5']}` |" for one in record["files"])
    lines = [
        f"# {manifest.name}",
        "",
        "**Research software. Not for clinical use.**",
        "",
        f"Imported into CMBDetector from files in the format `{record['format']}`. "
        "CMBDetector's authors have neither trained nor measured it.",
        "",
        f"{preparation}",
        "",
        "| file | md5 |",
        "| --- | --- |",
        files,
        "",
        f"- Authors: {manifest.authors}",
        f"- License: {manifest.license}. {terms.notice}",
    ]
    for name, key in (("Release", "release_date"), ("Architecture", "architecture")):
        if record[key]:
            lines.append(f"- {name}: {record[key]}")
    if terms.url:
        lines.append(f"- Source: <{terms.url}>")
    if terms.citation:
        lines.append(f"- Cite: {terms.citation}")
    return "\n".join(lines) + "\n"


def license_text(source: ModelSource, terms: Terms) -> str:
    """The license that lies with the model, else what is known of it."""
    for folder in {path.parent for path in source.networks} | {source.networks[0]}:
        for path in sorted(folder.glob("LICENSE*")) if folder.is_dir() else []:
            if path.is_file() and path.stat().st_size <= _LARGEST_LICENSE_BYTES:
                return path.read_text(encoding="utf-8", errors="replace")
    return f"{terms.license}\n\n{terms.notice}\n"
