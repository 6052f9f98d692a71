"""One run of an imported network, for ``imported_models.py``: time, memory, output.

python benchmarks/full_size_network.py torch|openvino BUNDLE IMAGE.npy OUTPUT.npy
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from CMBDetectorLib.inference.backends import on_backend
from CMBDetectorLib.inference.device import resolve_backend
from CMBDetectorLib.models.graph_members import load_graph_member
from CMBDetectorLib.models.whole_head_bundle import load_whole_head_bundle

RUNS = 2


def peak_gib() -> float:
    """The largest resident size of this process so far."""
    if hasattr(psutil.Process().memory_info(), "peak_wset"):
        return float(psutil.Process().memory_info().peak_wset / 2**30)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> None:
    """Print a line of JSON."""
    backend, bundle_path, image_path, output_path = sys.argv[1:]
    compute = resolve_backend("cpu", "fp32", backend)
    bundle = load_whole_head_bundle(Path(bundle_path))
    network = on_backend(load_graph_member(bundle, bundle.members[0]), compute)
    image = torch.from_numpy(np.load(image_path))[None, None]
    seconds = []
    with torch.inference_mode():
        for number in range(RUNS + 1):
            start_s = time.monotonic()
            output = network(image)
            if number > 0:  # the first one compiles
                seconds.append(time.monotonic() - start_s)
    np.save(output_path, output[0, 0].numpy())
    print(json.dumps({"seconds": seconds, "peak_gib": peak_gib()}))


if __name__ == "__main__":
    main()
