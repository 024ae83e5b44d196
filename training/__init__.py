"""Offline: what fits, certifies and evaluates a release."""

import os

# Threads of GNU OpenMP (LightGBM, XGBoost) spin long where they wait. Where other work shares the cores that
# starves the very thread they wait for: small fits took over ten times as long. A thirtieth of it costs nothing on a
# quiet machine; not to spin at all does. Read once, when the library is loaded, so it is set before anything trains.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
