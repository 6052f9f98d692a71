"""The three fields above the lesion table that choose what it lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from CMBDetectorLib.anatomy.schemes import ZONES
from CMBDetectorSlicer.lesion_rows import VERDICTS, RowFilter
from CMBDetectorSlicer.shortcuts import keepKeysActing


class LesionFilters:
    """Zone, verdict and smallest score; ``onChanged`` is called when one of them was changed."""

    def __init__(self, ui: Any, onChanged: Callable[[], None]) -> None:
        self._ui = ui
        for combo, everything, values in (
            (ui.zoneFilter, "all zones", ZONES),
            (ui.verdictFilter, "all verdicts", VERDICTS),
        ):
            combo.clear()
            combo.addItem(everything, "")
            for value in values:
                combo.addItem(value, value)
            combo.connect("currentIndexChanged(int)", lambda _index: onChanged())
            keepKeysActing(combo)
        ui.scoreFilter.connect("valueChanged(double)", lambda _value: onChanged())

    def rowFilter(self) -> RowFilter:
        """What is chosen now."""
        zone, verdict = self._ui.zoneFilter, self._ui.verdictFilter
        return RowFilter(
            zone=zone.itemData(zone.currentIndex) or None,
            verdict=verdict.itemData(verdict.currentIndex) or None,
            minScore=self._ui.scoreFilter.value,
        )
