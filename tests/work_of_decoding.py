"""Reads responses of all shapes in two lengths, for callgrind to count what each costs.

Run it under ``valgrind --tool=callgrind --dump-before=getppid``: each call of ``getppid`` ends a part of the profile,
so that every other part is one reading. Prints the length and the name of each.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from benchmarks import bad_bytes

LENGTHS = (2_000, 4_000)


def main() -> None:
    """Read all shapes; before them one that is not counted, for what is made once."""
    everything = [shape for length in LENGTHS for shape in bad_bytes.bodies(length)]
    for lazily in (False, True):
        bad_bytes.read_bytes(everything[0][1], lazily=lazily)
    for name, raw in everything:
        os.getppid()
        for lazily in (False, True):
            bad_bytes.read_bytes(raw, lazily=lazily)
        os.getppid()
        sys.stdout.write(f"{len(raw)} {name}\n")


if __name__ == "__main__":
    main()
