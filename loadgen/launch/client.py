"""Runs the load generator in a separate process: Locust with one of our locustfiles, against a running server."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from loadgen.launch.locustfiles import locust_command, shipped

LoadName = Literal["chat", "sweep"]
"""Name of the locustfile that applies the load."""

NO_KEY = {"OPENAI_API_KEY": "", "OPENAI_API_KEY_FILE": ""}
"""Variables of a client whose server needs no key."""

_INTERRUPTED_S = 90.0
"""So long it may take to end what is in flight, and to write its report."""


def start_client(
    load: LoadName,
    options: Mapping[str, object],
    folder: Path,
    *,
    errors: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start it headless in a folder, with its standard error on a descriptor or, without one, on ours.

    ``options``: Locust's and ours by flag; a flag whose value is True stands alone, one whose
    value is a tuple is repeated. ``environment``: more variables.
    """
    command = [*locust_command(shipped()[load]), "--headless"]
    for flag, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        command += [flag] if value is True else [word for one in values for word in (flag, str(one))]
    return subprocess.Popen(  # noqa: S603 our own
        command,
        cwd=folder,
        env=_plain_environment() | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,  # a Ctrl-C in the terminal is for us, who pass it on
    )


def interrupt(client: "subprocess.Popen[bytes]") -> None:
    """Have it finish what is in flight, write its report and end."""
    try:
        client.send_signal(signal.SIGINT)
        client.wait(_INTERRUPTED_S)
    except subprocess.TimeoutExpired:
        pass
    finally:  # a second interrupt of ours is for it, too
        client.kill()
        client.wait()


def _plain_environment() -> dict[str, str]:
    """Return the environment without what would change a run."""
    changing, kept = ("LOADGEN_", "LOCUST_"), {"LOADGEN_CALIBRATION", "LOADGEN_METRICS"}
    return {n: v for n, v in os.environ.items() if not n.startswith(changing) or n in kept}
