"""Everything in a head that is a tube or a sheet, drawn at random, and tubes as volumes."""

from __future__ import annotations

from training.simulation.arteries import draw_arteries
from training.simulation.choroid import draw_choroid
from training.simulation.membranes import draw_membranes
from training.simulation.perforators import draw_perforators, draw_perivascular_spaces
from training.simulation.tubes import Tube, rasterize
from training.simulation.veins import draw_veins

__all__ = [
    "Tube",
    "draw_arteries",
    "draw_choroid",
    "draw_membranes",
    "draw_perforators",
    "draw_perivascular_spaces",
    "draw_veins",
    "rasterize",
]
