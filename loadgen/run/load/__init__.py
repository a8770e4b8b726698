"""Load models: how the load of a run is applied, one module each, listed in ``catalogue.py``."""
