"""Blood shown beside its vessel, for it moves between phase encoding and readout.

Place along the phase axis is encoded shortly after excitation, place along the readout at the echo.
Blood that crosses both obliquely is shown where it was along the one and is along the other: beside
its vessel, whose lumen is left dark (Nishimura et al., Magnetic Resonance in Medicine 22, 1991).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from training.simulation.protocol import Acquisition
from training.simulation.tubes import Tube

SPEED_PER_RADIUS_PER_S = 300.0
"""Mean speed (mm/s) for each mm of radius: flow goes with the cube of the radius (Murray 1926).
About 400 mm/s in the stem of the middle cerebral artery (Aaslid et al. 1982), 60 mm/s at .2 mm."""


def shown_beside(arteries: Iterable[Tube], protocol: Acquisition) -> list[Tube]:
    """Arteries, each flowing from its first point to its last, where their blood is shown.

    A place moves against the flow along ``phase_axis`` by speed times ``flow_delay_s``: at the
    echo, blood is seen at what was its place along that axis that long before.
    """
    axis, moved = protocol.phase_axis, []
    for artery in arteries:
        if len(artery.points_mm) < 2:
            continue
        heading = np.gradient(artery.points_mm, axis=0)
        heading /= np.maximum(np.linalg.norm(heading, axis=1, keepdims=True), 1e-9)
        speed_mm_per_s = SPEED_PER_RADIUS_PER_S * artery.radius_mm
        points_mm = artery.points_mm.copy()
        points_mm[:, axis] -= heading[:, axis] * speed_mm_per_s * protocol.flow_delay_s
        moved.append(Tube(points_mm, artery.radius_mm))
    return moved
