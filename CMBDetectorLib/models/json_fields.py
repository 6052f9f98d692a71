"""Reading untrusted JSON: every value is checked as it is taken, every error names its place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CMBDetectorLib.errors import ModelError

MAX_JSON_BYTES = 4 * 2**20


@dataclass(frozen=True)
class JsonObject:
    """An object within a JSON file; ``where`` is the path of keys that leads to it.

    All methods raise :class:`ModelError`, naming file, key and what was expected, if the value is
    missing or of another kind.
    """

    path: Path
    data: Mapping[str, Any]
    where: str = ""

    def value(self, key: str) -> Any:
        """Whatever is stored under ``key``."""
        if key not in self.data:
            raise ModelError(f"{self.path}: the key {self._name(key)} is missing; re-export it")
        return self.data[key]

    def child(self, key: str) -> JsonObject:
        """The object stored under ``key``."""
        value = self.value(key)
        if not isinstance(value, dict):
            raise self.error(key, value, "an object")
        return JsonObject(self.path, value, self._name(key))

    def text(self, key: str) -> str:
        """A string that is not empty."""
        value = self.value(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, value, "a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, at least one."""
        value = self.value(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self.error(key, value, "a list of texts")
        return tuple(value)

    def number(self, key: str, low: float, high: float) -> float:
        """A finite number within ``low`` and ``high``."""
        value = self.value(key)
        if not _is_number(value) or not low <= value <= high:
            raise self.error(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number within ``low`` and ``high``."""
        value = self.value(key)
        if not _is_integer(value) or not low <= value <= high:
            raise self.error(key, value, f"a whole number from {low} to {high}")
        return int(value)

    def range(self, key: str, low: float, high: float) -> tuple[float, float]:
        """Two rising numbers within ``low`` and ``high``."""
        value = self.value(key)
        is_pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
        if not is_pair or not low <= value[0] <= value[1] <= high:
            raise self.error(key, value, f"[smallest, largest] within {low:g} and {high:g}")
        return float(value[0]), float(value[1])

    def shape(self, key: str, low: int, high: int) -> tuple[int, int, int]:
        """Three whole numbers within ``low`` and ``high``."""
        value = self.value(key)
        is_triple = isinstance(value, list) and len(value) == 3 and all(map(_is_integer, value))
        if not is_triple or not all(low <= v <= high for v in value):
            raise self.error(key, value, f"three whole numbers from {low} to {high}")
        return int(value[0]), int(value[1]), int(value[2])

    def error(self, key: str, value: object, expected: str) -> ModelError:
        """The error for a value that is there and wrong."""
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        return ModelError(f"{self.path}: {self._name(key)} is {shown}, expected {expected}")

    def _name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key


def read_json_object(path: Path) -> JsonObject:
    """Read a JSON file that holds one object.

    Raises
    ------
    ModelError
        If the file cannot be read, is absurdly large, or is not a JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{path}: larger than {MAX_JSON_BYTES} bytes, not a configuration")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise ModelError(f"{path}: not valid JSON ({problem}); get the model again") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path}: holds a {type(data).__name__}, expected a JSON object")
    return JsonObject(path, data)


def refuse_expressions(document: JsonObject) -> None:
    """Refuse what MONAI's configuration language would execute or look up.

    Those are strings that begin with ``$`` (Python code), ``@`` (references) and ``%`` (macros).
    Nothing here evaluates them; a bundle that needs them would not mean what it says.
    """
    pending: list[Any] = [document.data]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and value.lstrip()[:1] in {"$", "@", "%"}:
            raise ModelError(
                f"{document.path}: holds the expression {value[:60]!r}; "
                "only plain values are accepted, nothing in a model is executed"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
