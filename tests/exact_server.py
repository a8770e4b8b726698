"""Servers that speak exactly as engines do that need a GPU or a container: one program, started by their own words.

    python tests/exact_server.py --engine NAME [the words of the engine's own command line ...]

Each engine is one class in ``exact/``: its flags, routes, refusals, bytes and metrics, and where that was read. The
answers are those of :func:`exact.base.generate`. Variables of the environment: EXACT_SERVER_PORT, where to listen,
instead of what the words say; EXACT_SERVER_RECORD, a file that gets a line of JSON for each request.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from exact.base import (
    TOKEN_S,
    Answer,
    Engine,
    Refused,
    compact,
    end,
)
from exact.of_today import Lmdeploy, Ollama, Sglang, TensorrtLlm
from exact.vllm_and_tgi import Tgi, Tgi101, Vllm013

ENGINES: Mapping[str, type[Engine]] = {
    engine.name: engine for engine in (Vllm013, Tgi101, Tgi, Sglang, TensorrtLlm, Lmdeploy, Ollama)
}


def handler(engine: Engine) -> type[BaseHTTPRequestHandler]:
    """Serves an engine, and keeps a record of what was asked."""
    record, lock = os.environ.get("EXACT_SERVER_RECORD"), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def note(self, **said: object) -> None:
            if record:
                of = {"engine": engine.name, "method": self.command, "path": self.path, "at": time.time()}
                of["request_id"] = self.headers.get("x-request-id")
                with lock, Path(record).open("a") as file:
                    file.write(json.dumps({**of, **said}) + "\n")

        def begin(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response_only(status)  # without a name of Python's
            for name, value in {**engine.headers, **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def say(self, status: int, kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.begin(status, {"content-type": kind, "content-length": str(len(body)), **(headers or {})})
            self.wfile.write(body)

        def tell(self, status: int, told: object) -> None:
            if isinstance(told, str):
                self.say(status, "text/plain; charset=utf-8", told.encode())
            else:
                self.say(status, "application/json", compact(told).encode())

        def lack(self, *, there: bool) -> None:
            kind, text = engine.not_allowed if there else engine.not_found
            self.say(405 if there else 404, kind, text.encode())

        def do_GET(self) -> None:
            self.note()
            told = engine.gets(self.path)
            if told is None:
                self.lack(there=self.path in engine.posts)
            else:
                self.tell(200, told)

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path not in engine.posts:
                self.note(status=404)
                self.lack(there=engine.gets(self.path) is not None)
                return
            body = json.loads(raw)
            try:
                answer = engine.answer(body, self.path)
            except Refused as refused:
                self.note(status=refused.status, body=body)
                self.tell(refused.status, refused.body)
                return
            shown = answer.made.trimmed if engine.trims else answer.made.texts
            counts = {"output_tokens": answer.output_tokens, "words": sum(map(bool, shown))}
            counts |= {"prompt_tokens": answer.prompt_tokens}
            self.note(status=200, body=body, finish=answer.finish, **counts)
            try:
                (self.stream if answer.events else self.send_whole)(answer)
            except OSError:  # the client has gone
                self.close_connection = True

        def send_whole(self, answer: Answer) -> None:
            time.sleep(TOKEN_S * len(answer.made.texts))
            engine.count(answer)
            self.say(200, "application/json", answer.whole, answer.headers)

        def stream(self, answer: Answer) -> None:
            about = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
            self.begin(200, about | dict(answer.headers))
            held = b""
            for data in answer.events or ():
                self.send_chunk(held)
                held = data
            engine.count(answer)  # before the end is told, so that who knows it finds the count complete
            self.send_chunk(held)
            self.wfile.write(b"0\r\n\r\n")

        def send_chunk(self, data: bytes) -> None:
            if data:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main() -> None:
    match sys.argv[1:]:
        case ["--engine", name, *words] if name in ENGINES:
            engine = ENGINES[name](words)
        case _:
            end(f"usage: exact_server.py --engine {{{','.join(ENGINES)}}} ...")
    server = Server(("127.0.0.1", engine.port), handler(engine))
    sys.stdout.write(f"{engine.name} listens at {engine.port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
