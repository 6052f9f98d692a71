"""Devices in words for people."""

from __future__ import annotations

_KINDS = {"cpu": "processor", "cuda": "GPU", "mps": "GPU"}


def deviceText(deviceId: str) -> str:
    """``cpu`` as "processor", ``cuda:1`` as "GPU 1"."""
    kind, _, number = deviceId.partition(":")
    return f"{_KINDS.get(kind, kind)} {number}".strip()
