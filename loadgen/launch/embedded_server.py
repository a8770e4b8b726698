"""The embedded engine's process: llama.cpp's own server on loopback, for as long as its standard input stays open.

Run as ``python -m loadgen.launch.embedded_server MODEL.gguf SLOTS CONTEXT``; it prints its address when it is ready.
The parent holds the other end of the pipe: however the parent ends, the pipe ends with it, and so does this process.
"""

import os
import sys

ALIAS = "random-llama"


def main(model: str, slots: int, context: int) -> None:
    """Serve until standard input ends. ``context`` is that of one slot, tokens."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {ALIAS}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 2) // 2)
    params.cache_prompt = False
    params.endpoint_metrics = True
    params.warmup = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201 the parent reads it
    while sys.stdin.buffer.read(1024):
        pass
    os._exit(0)  # the server's threads have nothing to save


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
