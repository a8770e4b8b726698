"""A command on a terminal of its own: a pseudo-terminal of a given width, and what the command writes to it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LONGEST_SILENCE_S = 120.0
"""A command that writes nothing for so long hangs."""

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""What steers a terminal: colours, movements, the erasing of a line."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command wrote to its terminal, and with which status it ended."""

    raw: str
    status: int

    @property
    def text(self) -> str:
        """The text without what steers the terminal; what was drawn over is there, too."""
        return _CONTROL.sub("", self.raw).replace("\r\n", "\n").replace("\r", "\n")

    @property
    def lines(self) -> list[str]:
        """Its lines."""
        return [line.rstrip() for line in self.text.split("\n")]


def on_terminal(command: Sequence[str], *, columns: int, cwd: Path, environment: Mapping[str, str]) -> Shown:
    """Run a command to its end on a terminal of so many columns, which shows the text of all its streams."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = {k: v for k, v in environment.items() if k not in {"COLUMNS", "LINES"}} | {"TERM": "xterm-256color"}
    process = subprocess.Popen(command, cwd=cwd, env=variables, stdin=its, stdout=its, stderr=its)
    os.close(its)
    parts = []
    try:
        while part := _read(ours):
            parts.append(part)
        status = process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return Shown(b"".join(parts).decode(), status)


def _read(terminal: int) -> bytes:
    """Return the next output; nothing once no process has the terminal open, which Linux reports as an error."""
    assert select.select([terminal], [], [], LONGEST_SILENCE_S)[0], "it writes nothing, and does not end"
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
