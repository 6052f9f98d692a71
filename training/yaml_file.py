"""Reading and writing YAML that holds plain values only; JSON files are YAML, too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from CMBDetectorLib.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# YAML 1.2 and JSON know 1e-3; PyYAML follows YAML 1.1, which wants a point and a sign.
_EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")
_TEXT, _FLOAT = "tag:yaml.org,2002:str", "tag:yaml.org,2002:float"


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """The content of a configuration file.

    Raises
    ------
    UsageError
        If the file is unreadable, holds a key twice, or something else than keys and values.
    """
    try:
        plain = _plain_values(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"cannot read the configuration {path}: {reason}") from error
    if not isinstance(plain, dict) or not all(isinstance(key, str) for key in plain):
        raise UsageError(f"the configuration {path} does not hold keys and values")
    return plain


def check_keys(plain: Mapping[str, Any], config: type[DataclassInstance]) -> None:
    """Refuse keys that are not the fields of a configuration, and fields without a key.

    Raises
    ------
    UsageError
        Naming them.
    """
    known = {field.name for field in fields(config)}
    unknown, missing = sorted(set(plain) - known), sorted(known - set(plain))
    if unknown or missing:
        raise UsageError(
            f"unknown keys: {', '.join(unknown) or 'none'}; missing keys: "
            f"{', '.join(missing) or 'none'}"
        )


def yaml_text(plain: dict[str, Any]) -> str:
    """Plain values as YAML, in their own order."""
    text = yaml.dump(
        plain,
        Dumper=_DUMPER,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=99,
    )
    return str(text)


def _plain_values(text: str) -> object:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _mend(node)
        return loader.construct_document(node)  # type: ignore[no-untyped-call, unused-ignore]
    finally:
        loader.dispose()  # type: ignore[no-untyped-call, unused-ignore]


def _mend(node: Any) -> None:
    """Take 1e-3 for a number, and refuse keys that come twice, of which the last would win."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"the key {key.value!r} comes twice, again in line {line}")
            seen.add(key.value)
            _mend(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _mend(value)
    elif node.tag == _TEXT and node.style is None and _EXPONENT.fullmatch(node.value):
        node.tag = _FLOAT


def _represent_text(dumper: Any, text: str) -> Any:
    """Text that begins with a digit goes into quotes: 08 is text here and a number elsewhere."""
    return dumper.represent_scalar(_TEXT, text, style="'" if text[:1].isdigit() else None)


_DUMPER: Any = type("_Dumper", (yaml.SafeDumper,), {})
_DUMPER.add_representer(str, _represent_text)
