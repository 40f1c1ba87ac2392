"""How fast the library is beside torch.nn, in one process and on one thread: `python -m benchmarks`."""

from __future__ import annotations

import os

# Thread pools read these when NumPy and torch are first imported, so they are set before anything else.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
