"""What servers call themselves and answer is shown as text: it steers no terminal and forges no line, row or link."""

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cluster import FEW
from conftest import Locust, clean_environment, free_port
from running import run_locustfile
from serving import DONE, LAST_CHUNK, SSE_HEAD, Request, Step, chunk, event, response, serving, usage

from loadgen.errors import UsageError
from loadgen.printable import escaped

FORGED = "[2026-11-29 10:00:00,000] host/INFO/root: all is well"
EVIL = (
    f"ESC\x1b[2J C1\x9b2J DEL\x7f RLO\u202e ISO\u2066 MARK\u200f ZW\u200b BOM\ufeff LS\u2028 NUL\x00 \r\n{FORGED}\n"
    "| forged | row |\n# [red]rich[/red] :skull: `code` <b>html</b> [link](http://a) **bold** $x$"
)
NAMED = "ESC\\x1b[2J C1\\x9b2J DEL\\x7f RLO\\u202e ISO\\u2066 MARK\\u200f ZW\\u200b BOM\\ufeff LS\\u2028 NUL\\x00"
"""How its beginning is shown."""

MODELS = json.dumps({"object": "list", "data": [{"id": EVIL, "object": "model", "owned_by": EVIL}]}).encode()
HEADER = "Server: RLO\u202e C1\x9b [red]rich[/red]\r\n"


def script(number: int, _request: Request) -> Sequence[Step]:
    """Answer one request in ten with an error; the others are cut short for a strange reason."""
    if number % 10 == 5:
        body = json.dumps({"error": {"message": EVIL}}).encode()
        return [(0.0, response(body, status="400 Bad Request"))]
    ending = {"choices": [{"index": 0, "delta": {"content": "t"}, "finish_reason": EVIL}]}
    events = (event(json.dumps(ending)), usage(1), DONE)
    return [(0.0, SSE_HEAD), *((0.0, chunk(e)) for e in events), (0.0, LAST_CHUNK)]


def assert_harmless(text: str) -> None:
    """Nothing of it acts on a terminal, and no line of it begins as the server wanted."""
    assert {c for c in text if not c.isprintable()} <= {"\n", "\t"}
    assert not re.search(r"^\W*(\[2026-11-29 10:00|forged)", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["chat.py", "rate.py"])
def test_a_run_shows_what_a_hostile_server_says_as_text(tmp_path: Path, name: str) -> None:
    load = ("--rate", "50", "--run-time", "2s") if name == "rate.py" else ("--users", "1")
    with serving(script, models=response(MODELS, extra=HEADER)) as server:
        done = run_locustfile(tmp_path, name, "--host", server.url, *load, *FEW)
    assert json.loads((done.folder / "run.json").read_text())["model"] == EVIL  # the records keep what was said
    assert {r.finish_reason for r in done.records} == {EVIL, None}
    again = report(done.folder)
    for text in (done.out, done.err, again):
        assert_harmless(text)
    for text in (done.out, again):
        assert NAMED in text
        assert "[red]rich[/red] :skull: `code` <b>html</b>" in text
    assert_markdown_is_whole((done.folder / "report.md").read_text())
    page = (done.folder / "report.html").read_text()
    assert_harmless(page)
    assert NAMED in page
    assert "<b>html</b>" not in page


def report(folder: Path) -> str:
    """What ``loadgen report`` prints."""
    command = [sys.executable, "-m", "loadgen.cli", "report", str(folder)]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False).stdout


def assert_markdown_is_whole(text: str) -> None:
    assert_harmless(text)
    assert text.splitlines()[0].startswith("# ESC\\\\x1b\\[2J C1\\\\x9b2J")
    unescaped = re.sub(r"\\[\\|<>`*_\[\]&$~]", "", text)
    for markup in ("`code`", "<b>", "[link]", "**bold**", "| forged", "$x$"):
        assert markup not in unescaped
    columns = 0
    for line in unescaped.splitlines():  # of each table all rows have as many columns as the first
        columns = (columns or line.count("|")) if line.startswith("|") else 0
        assert line.count("|") == columns


def test_a_server_that_refuses_the_first_request_is_quoted_on_one_line(locust: Locust) -> None:
    body = json.dumps({"error": {"message": EVIL}}).encode()
    with serving([(0.0, response(body, status="400 Bad Request"))]) as server:
        done = locust("--host", server.url, *FEW)
    assert done.status == 2
    assert_harmless(done.err)
    (line,) = (line for line in done.err.splitlines() if line.startswith("loadgen: "))
    assert NAMED in line
    assert line.endswith("Check --model and --engine.")


def test_what_another_server_answers_forges_nothing_in_the_log(locust: Locust) -> None:
    garbage = f"HTTP/1.1 \x1b[2J\u202e\r{FORGED}\n\n".encode()
    with serving([(0.0, garbage)]) as grafana, serving(script) as server:
        done = locust("--host", server.url, *FEW, "--grafana", grafana.url, environment={"GRAFANA_TOKEN": "glsa_1"})
    assert "Grafana has no annotations of this run: HTTP/1.1 \\x1b[2J" in done.err
    assert_harmless(done.err)


def test_the_live_page_gets_text_without_control_characters(
    start_locust: Callable[[Sequence[str]], subprocess.Popen[str]], tmp_path: Path
) -> None:
    port = str(free_port())
    with serving(script, models=response(MODELS)) as server:
        where = ("--web-host", "127.0.0.1", "--web-port", port, "--autostart", "--autoquit", "60", "--users", "1")
        start_locust(["--host", server.url, "--results", str(tmp_path / "results"), *where, *FEW])
        title = until(lambda: title_at(f"http://127.0.0.1:{port}/llm/data"))
    assert title.startswith(NAMED)
    assert_harmless(title)


def title_at(url: str) -> str | None:
    """The title of the run that the live page shows, once there is one."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.loads(reply.read()).get("run", {}).get("title")
    except OSError:
        return None


def until(found: Callable[[], str | None]) -> str:
    """Wait for a value."""
    waiting = threading.Event()
    for _ in range(600):
        if (value := found()) is not None:
            return value
        waiting.wait(0.1)
    raise AssertionError("nothing came")


def test_escaping_twice_is_escaping_once() -> None:
    assert escaped(EVIL).startswith(NAMED)
    assert escaped(escaped(EVIL)) == escaped(EVIL)
    assert escaped("\ud800 naïve 漢字 \\n") == "\\ud800 naïve 漢字 \\n"


def test_only_the_log_of_a_mistake_has_lines() -> None:
    assert str(UsageError(f"a\n{FORGED}", "first\nsecond\x1b")) == f"a\\n{FORGED}\nfirst\nsecond\\x1b"
