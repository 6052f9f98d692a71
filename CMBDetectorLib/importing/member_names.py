"""Names in an archive: safe, storable on every system, and different on every system."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path, PurePosixPath

from CMBDetectorLib.errors import ModelError
from CMBDetectorLib.models.checksums import safe_relative_path

MAX_NAME_CHARACTERS = 500
MAX_PART_BYTES = 255
# What some system cannot store, or takes for something else: a device, a stream, another name.
_NOT_EVERYWHERE = re.compile(
    r"[\x00-\x1f\x7f:*?\"<>|\ud800-\udfff]|[. ]\Z|\A(con|prn|aux|nul|com\d|lpt\d)(?=\.|\Z)",
    re.IGNORECASE,
)


class MemberNames:
    """The names taken so far, as seen by a system that does not tell capitals apart."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._spelled: dict[str, str] = {}
        self._members: set[str] = set()
        self._files: set[str] = set()

    def add(self, name: str, *, is_folder: bool) -> PurePosixPath:
        """Take a name.

        Raises
        ------
        ModelError
            If the name leads out of the folder, cannot be stored on every system, is taken, differs
            from one that is taken only in capitals, or needs a folder where a file is.
        """
        path = self._storable(name)
        for place in (path, *path.parents[:-1]):
            spelled = self._spelled.get(_folded(place), str(place))
            if spelled != str(place):
                raise self._error(name, f"differs from {spelled[:80]!r} in capitals only")
        key = _folded(path)
        if key in self._members:
            raise self._error(name, "is there twice")
        folders = {_folded(place) for place in path.parents[:-1]}
        if folders & self._files or (not is_folder and key in self._spelled):
            raise self._error(name, "needs a file and a folder of one name")
        self._spelled |= {_folded(place): str(place) for place in (path, *path.parents[:-1])}
        self._members.add(key)
        if not is_folder:
            self._files.add(key)
        return path

    def _storable(self, name: str) -> PurePosixPath:
        for part in name.split("/"):
            found = None if part in {".", ".."} else _NOT_EVERYWHERE.search(part)
            if found is not None:
                raise self._error(name, f"holds {found[0]!r}, which not every system can store")
            if len(part.encode()) > MAX_PART_BYTES or len(name) > MAX_NAME_CHARACTERS:
                raise self._error(name, f"has a name of {len(name)} characters")
        try:
            return safe_relative_path(name, self._archive)
        except ModelError as error:
            raise self._error(name, "is not a path within a folder") from error

    def _error(self, name: str, found: str) -> ModelError:
        return ModelError(
            f"{self._archive}: the member {name[:80]!r} {found}; expected short plain names that "
            "are all different; get the archive again"
        )


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", str(path)).casefold())
