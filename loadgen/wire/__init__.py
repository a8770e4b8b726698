"""One request, from the socket to its transcript. Knows HTTP and event streams, and no API."""

import sys

if sys.platform == "win32":
    raise ImportError("loadgen reads sockets in ways that Windows does not have: run it in WSL2.")
