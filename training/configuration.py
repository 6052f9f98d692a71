"""One YAML file describes a model from the grid it works on to the way it is trained."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from CMBDetectorLib.errors import UsageError
from training.settings import TrainingConfig
from training.yaml_file import read_yaml_mapping

BASE_KEY = "base"
_PREFIX = "split:"
_PLAIN_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}

Settings = TypeVar("Settings")


def read_config(path: Path) -> TrainingConfig:
    """Read and check a configuration.

    A file may name another as its ``base``, relative to itself; it then says only what differs.

    Raises
    ------
    UsageError
        If the file is unreadable, a key is missing or unknown, or a value makes no sense.
    """
    plain = read_plain_config(path)
    try:
        return parse_config(plain)
    except UsageError as error:
        raise UsageError(f"the configuration {path}: {error}") from error


def read_plain_config(path: Path) -> dict[str, Any]:
    """The plain values of a configuration, those of its base included."""
    chain: list[dict[str, Any]] = []
    seen: list[Path] = []
    following: Path | None = path
    while following is not None:
        if following.resolve() in seen:
            raise UsageError(f"the configuration {path} is its own base; remove one 'base'")
        seen.append(following.resolve())
        plain = read_yaml_mapping(following)
        base = plain.pop(BASE_KEY, None)
        if base is not None and not isinstance(base, str):
            raise UsageError(f"the configuration {following}: base is a file's name, got {base!r}")
        chain.append(plain)
        following = None if base is None else following.parent / base
    merged = chain.pop()
    while chain:
        merged = _merged(merged, chain.pop())
    return merged


def parse_config(plain: Mapping[str, Any]) -> TrainingConfig:
    """The configuration from its plain form; raises UsageError as :func:`read_config`."""
    config = settings_from_plain(TrainingConfig, plain, "the top level")
    _check(config)
    return config


def plain_config(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as plain values, as YAML and JSON give them back."""
    plain = _listed(asdict(config))
    assert isinstance(plain, dict)
    return plain


def differences(config: TrainingConfig, plain: Mapping[str, Any]) -> list[str]:
    """Keys, with dots, whose values are not those of a stored configuration.

    A key with a default that the stored one lacks has this default there: it is of before the key.
    """
    return _different(plain_config(config), _with_defaults(TrainingConfig, plain), "")


def settings_from_plain(kind: type[Settings], plain: object, where: str) -> Settings:
    """A settings dataclass from plain values; every key is known, every value of its type.

    Raises
    ------
    UsageError
        Naming the key, and for an unknown one the nearest that is known.
    """
    if not isinstance(plain, Mapping):
        raise UsageError(f"{where} holds {plain!r}, expected keys and values")
    hints = get_type_hints(kind)
    own = fields(kind)  # type: ignore[arg-type]
    known = [field.name for field in own]
    unknown = [str(key) for key in plain if key not in known]
    if unknown:
        raise UsageError(f"{where} has {_unknown(unknown, known)}")
    missing = [field.name for field in own if field.default is MISSING and field.name not in plain]
    if missing:
        raise UsageError(f"{where} lacks {', '.join(missing)}; add what is missing")
    inside = "" if where == "the top level" else f"{where}."
    return kind(**{key: _value(hints[key], value, inside + key) for key, value in plain.items()})


def _unknown(unknown: list[str], known: list[str]) -> str:
    described = []
    for key in unknown:
        near = difflib.get_close_matches(key, known, 1, 0.5)
        described.append(f"{key} (did you mean {near[0]}?)" if near else key)
    keys = "an unknown key" if len(unknown) == 1 else "unknown keys"
    return f"{keys} {', '.join(described)}; known are {', '.join(known)}"


def _value(hint: Any, value: object, where: str) -> Any:  # noqa: PLR0911 (one line per kind)
    """A value of a type that the settings use, lists becoming tuples."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        if value is None and type(None) in inner:
            return None
        kinds = [one for one in inner if one is not type(None)]
        wanted = [one for one in kinds if (get_origin(one) is tuple) == isinstance(value, list)]
        return _value((wanted or kinds)[0], value, where)
    if is_dataclass(hint):
        return settings_from_plain(hint, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in inner:
            raise UsageError(f"{where} is {value!r}, expected one of {', '.join(map(str, inner))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{where} is {value!r}, expected a list")
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise UsageError(f"{where} has {len(value)} values, expected {len(inner)}")
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        return tuple(_value(k, v, where) for k, v in zip(kinds, value, strict=True))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} is {value!r}, expected keys and values")
        return dict(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and is_number:
        return float(value)  # type: ignore[arg-type]
    if not isinstance(value, hint) or (hint is int and not is_number):
        quotes = '; put it in quotes, as in "01"' if hint is str else ""
        raise UsageError(f"{where} is {value!r}, expected {_PLAIN_NAMES[hint]}{quotes}")
    return value


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        # A network is one piece: keys of another architecture would make no sense in it.
        merged[key] = _merged(base[key], value) if both and key != "network_def" else value
    return merged


def _listed(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _with_defaults(kind: Any, plain: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored, with the defaults of a settings dataclass where it says nothing."""
    hints = get_type_hints(kind)
    filled = {f.name: f.default for f in fields(kind) if f.default is not MISSING} | dict(plain)
    for key, value in plain.items():
        if is_dataclass(hints.get(key)) and isinstance(value, Mapping):
            filled[key] = _with_defaults(hints[key], value)
    return filled


def _different(one: object, other: object, where: str) -> list[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [*one, *(key for key in other if key not in one)]
        found = []
        for key in keys:
            found += _different(one.get(key), other.get(key), f"{where}.{key}" if where else key)
        return found
    return [] if one == other else [where]


def _check(config: TrainingConfig) -> None:
    data, sampling, optimization = config.data, config.sampling, config.optimization
    overlap = set(data.training) & (set(data.selection) | set(data.test))
    overlap |= set(data.selection) & set(data.test)
    if overlap:
        raise UsageError(
            f"data: {', '.join(sorted(overlap))} serves two purposes; name it for one only"
        )
    if isinstance(data.folds, int):
        if data.folds < 2:
            raise UsageError(f"data.folds is {data.folds}, expected 2 or more, or lists, or []")
    elif not any(pattern.startswith(_PREFIX) for pattern in data.training):
        strangers = {
            group
            for fold in data.folds
            for group in fold
            if not any(fnmatchcase(group, pattern) for pattern in data.training)
        }
        if strangers:
            raise UsageError(f"data.folds names {', '.join(sorted(strangers))} outside training")
    if sampling.patch_shape[0] != sampling.patch_shape[1]:
        raise UsageError("sampling.patch_shape must be square in plane, for the quarter turns")
    if sampling.lesion_share + sampling.mimic_share + sampling.hard_negative_share > 1 + 1e-9:
        raise UsageError("the shares of sampling add up to more than 1; lower one of them")
    for name, value in (
        ("sampling.batch_size", sampling.batch_size),
        ("optimization.epoch_steps", optimization.epoch_steps),
        ("validation.interval_epochs", config.validation.interval_epochs),
        ("validation.scans", config.validation.scans),
        ("validation.patches", config.validation.patches),
    ):
        if value < 1:
            raise UsageError(f"{name} is {value}, expected 1 or more")
    not_negative: tuple[tuple[str, float], ...] = (
        ("validation.patience", config.validation.patience),
        ("validation.hard_negative_scans", config.validation.hard_negative_scans),
        ("validation.hard_negative_first_scans", config.validation.hard_negative_first_scans),
        ("loss.focal_gamma", config.loss.focal_gamma),
    )
    for name, setting in not_negative:
        if setting < 0:
            raise UsageError(f"{name} is {setting}, expected 0 or more")
    threshold = config.validation.hard_negative_threshold
    if threshold is not None and not 0 < threshold <= 1:
        raise UsageError(
            f"validation.hard_negative_threshold is {threshold}, expected more than 0, 1 at most"
        )
