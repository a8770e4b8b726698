"""Reads responses of all shapes in two lengths, for callgrind to count what each costs.

Run it under ``valgrind --tool=callgrind --instr-atstart=no --zero-before=getppid --dump-before=getpgrp``: the calls of
``getppid`` and ``getpgrp`` bound a reading, so that every part of the profile is one. Prints the number of its process,
waits for the file that it is given, by which time counting has to be on, and prints the length and name of each shape.
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
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    while not Path(sys.argv[1]).exists():  # no sleep: valgrind takes commands of a program that computes
        pass
    for name, raw in everything:
        os.getppid()
        for lazily in (False, True):
            bad_bytes.read_bytes(raw, lazily=lazily)
        os.getpgrp()
        sys.stdout.write(f"{len(raw)} {name}\n")


if __name__ == "__main__":
    main()
