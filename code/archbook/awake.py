"""Importing this, before torch, keeps OpenMP's waiting threads awake: for a benchmark.

Threads that sleep between operations wake slowly. On a quiet machine that makes whatever runs many
small operations up to seven times slower than it is, and flatters the others. OpenMP reads the
variables when torch is loaded, so they are set here at import, and nothing here loads torch; that
is also why this is no part of `archbook.timing`.
"""

import os

os.environ["OMP_WAIT_POLICY"] = "active"
os.environ.pop("GOMP_SPINCOUNT", None)
