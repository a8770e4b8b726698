"""Runs Locust many times: a process for each, forked when Locust and numpy, which take a second, are imported.

What is ours is not: each process reads the locustfile, and all that it imports of this project, as ``python -m locust``
does. Reads a list of ``[folder, arguments]`` from standard input, and writes a list of ``[status, out, err]``.
"""

import gc
import json
import os
import sys
import tempfile

import locust.main
import numpy as np  # noqa: F401 for the forks


def main() -> None:
    """Run them one after another."""
    cases = json.load(sys.stdin)
    assert not any(name.startswith("loadgen") for name in sys.modules)
    gc.freeze()  # or each would copy all of it
    json.dump([_run(folder, arguments) for folder, arguments in cases], sys.stdout)


def _run(folder: str, arguments: list[str]) -> tuple[int, str, str]:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        pid = os.fork()
        if pid == 0:
            for descriptor, file in enumerate((open(os.devnull), out, err)):  # noqa: PTH123, SIM115 until it ends
                os.dup2(file.fileno(), descriptor)
            os.chdir(folder)
            sys.argv = [sys.argv[0], *arguments]
            locust.main.main()
            sys.exit()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()


if __name__ == "__main__":
    main()
