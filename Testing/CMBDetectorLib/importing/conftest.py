"""What several tests of importing share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where to unpack; whatever else appears beside it has got out."""
    path = tmp_path / "inside" / "folder"
    path.mkdir(parents=True)
    return path
