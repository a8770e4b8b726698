"""One short module per engine: what is particular to it. To add one, write it and name it in ``catalogue``."""
