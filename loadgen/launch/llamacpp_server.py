"""llama.cpp's own server on loopback, without a GPU: the embedded engine, and ``llamacpp`` where it is started.

Run as ``python -m loadgen.launch.llamacpp_server MODEL.gguf SLOTS CONTEXT``; it prints its address when it is ready and
stays for as long as its standard input is open: the parent holds the other end of the pipe, and however the parent
ends, the pipe ends with it. With ``--until-killed`` it stays until it gets SIGTERM instead.
"""

import argparse
import os
import signal
import sys

ALIAS = "random-llama"


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m loadgen.launch.llamacpp_server")
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("slots", type=int, help="requests at once")
    parser.add_argument("context", type=int, help="of one slot, tokens")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--alias", default=ALIAS, help="name of the model")
    parser.add_argument("--until-killed", action="store_true")
    options = parser.parse_args()
    server = _serve(options)  # noqa: F841 it serves as long as it lives
    if options.until_killed:
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    else:
        while sys.stdin.buffer.read(1024):
            pass
    os._exit(0)  # the server's threads have nothing to save


def _serve(options: argparse.Namespace) -> object:
    import xllamacpp

    if options.until_killed:  # in all threads, which are the server's: sigwait is the one that gets them
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 2) // 2)
    params.cache_prompt = False
    params.endpoint_metrics = True
    params.warmup = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201 the parent reads it
    return server


if __name__ == "__main__":
    main()
