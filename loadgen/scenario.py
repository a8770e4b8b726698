"""The frozen description of a run. Each option is declared once, here; flags and ``LOADGEN_*`` are made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from loadgen.errors import OptionError
from loadgen.headers import check_no_secrets, check_query, parse_header
from loadgen.merge_patch import parse_patch
from loadgen.record import Outcome
from loadgen.slo import parse_slo
from loadgen.steps import parse_precision, parse_steps

LONGEST_TIMEOUT_S = 1_000_000
EAGER_TOKENS_PER_SECOND = 20_000
"""Tokens a second that are read one by one by default: a fifth of a core where it was measured, so that a machine of a
third of the speed still holds it."""

ASSUMED_TOKENS_PER_SECOND = 150
"""Of a stream, where no warm-up told: few engines give one user more."""

SMALLEST_CV, LARGEST_CV = 0.01, 10.0
"""Beyond them a gamma distribution's draws are all alike, or nearly all 0."""

SHORTEST_STEP_S = 1.0
"""Within less no step shows anything: processes report once a second."""

LAST_PORT = 65_535

LIMIT_OPTIONS: Mapping[Outcome, str] = {
    Outcome.CONNECT_TIMEOUT: "--connect-timeout",
    Outcome.FIRST_BYTE_TIMEOUT: "--first-byte-timeout",
    Outcome.IDLE_TIMEOUT: "--idle-timeout",
    Outcome.TOTAL_TIMEOUT: "--total-timeout",
}
"""Option that sets the limit which an outcome is about: errors of requests name it."""

MetricsNames = Literal["llmload", "otel"]
Client = Literal["own", "openai"]
Auth = Literal["bearer", "api-key", "x-api-key", "none"]
LimitField = Literal["auto", "max_tokens", "max_completion_tokens"]
ArrivalProcess = Literal["constant", "poisson", "gamma"]


def _option(
    group: str,
    default: Any,  # noqa: ANN401 of the type of the field
    text: str,
    kind: type = str,
    *,
    metavar: str | None = None,
    web_ui: bool = False,
) -> Any:  # noqa: ANN401 a field of any type
    """Return a field that is an option.

    ``group`` is its heading in ``--help``, ``metavar`` the name of its value there; ``web_ui``: the form has it, too.
    """
    placeholder = f"<{metavar or kind.__name__}>"
    metadata = {"group": group, "help": text, "kind": kind, "metavar": placeholder, "web_ui": web_ui}
    return field(default=default, metadata=metadata)


_endpoint = partial(_option, "Endpoint")
_workload = partial(_option, "Workload")
_requests = partial(_option, "Requests")
_measurement = partial(_option, "Measurement")
_time_outs = partial(_option, "Time-outs", kind=float, metavar="seconds")
_sweep = partial(_option, "Sweep (sweep.py)", web_ui=True)
_open_loop = partial(_option, "Open loop (rate.py)")
_results = partial(_option, "Results and monitoring")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """What is asked of whom, and how; times in seconds. Build it with :func:`resolve`, which validates."""

    model: str | None = _endpoint(
        None, "model to request; if not given, the first that the server lists", metavar="name", web_ui=True
    )
    engine: str = _endpoint(
        "endpoint", "engine that the server runs, which decides its API", metavar="name or file", web_ui=True
    )
    endpoint: str | None = _endpoint(
        None, "route below --host in place of the API's, with a query if need be", metavar="PATH[?query]"
    )
    header: tuple[str, ...] = _endpoint(
        (),
        "header of every request; repeat it for more. A secret is given as NAME=env:VARIABLE or NAME=file:PATH. In "
        "LOADGEN_HEADER one per line",
        list,
        metavar="NAME=VALUE",
    )
    auth: str = _endpoint(
        "bearer", "how OPENAI_API_KEY is sent: 'bearer', 'api-key' (Azure), 'x-api-key', or 'none'", metavar="way"
    )
    proxy: str = _endpoint(
        "none", "proxy to the server: an address, or 'env' for HTTP_PROXY, HTTPS_PROXY and NO_PROXY", metavar="URL"
    )
    client_cert: str | None = _endpoint(None, "file of the certificate that the server asks for", metavar="file")
    client_key: str | None = _endpoint(None, "file of that certificate's key, if it is another", metavar="file")
    wait_ready: float = _endpoint(
        0.0, "maximum time to wait for a server that is still loading its model", float, metavar="seconds"
    )
    dataset: str = _workload(
        "samples",
        "prompts: 'samples' (the project's own), 'lima' (gated: needs HF_TOKEN), or a JSON file",
        metavar="name or file",
        web_ui=True,
    )
    sample: int = _workload(100, "number of rows of the data set that are drawn, each once", int, web_ui=True)
    requests: int | None = _workload(
        None,
        "number of requests; the sample is repeated as often as needed. If not given, each prompt is sent once, "
        "or with --run-time as many as it allows",
        int,
        web_ui=True,
    )
    seed: int = _workload(42, "random seed of the sample, its order and the arrival times", int)
    max_tokens: int = _requests(512, "maximum length of an answer, in tokens", int, metavar="tokens", web_ui=True)
    ignore_eos: bool = _requests(
        default=False, text="make each answer exactly --max-tokens long, if the engine supports that", kind=bool
    )
    temperature: float = _requests(0.0, "sampling temperature", float)
    top_p: float | None = _requests(None, "nucleus sampling: share of the probability that is sampled from", float)
    max_tokens_field: str = _requests(
        "auto",
        "field that limits an answer: 'max_tokens', 'max_completion_tokens', or 'auto' for what the server takes",
        metavar="name",
    )
    system_prompt: str | None = _requests(None, "system message before each prompt: a text, or @FILE", metavar="text")
    extra_body: str | None = _requests(
        None,
        "JSON object that is merged into each request's body, or @FILE; null removes a field, as in "
        """'{"temperature": null}'""",
        metavar="JSON",
    )
    warmup: int = _workload(
        5, "number of requests before the measurement, with prompts from outside the sample", int, web_ui=True
    )
    no_stream: bool = _requests(
        default=False, text="request each answer as a whole: only the full round trip is measured", kind=bool
    )
    client: str = _requests("own", "'own', or 'openai' to measure what the openai SDK costs", metavar="name")
    keep_alive: bool = _requests(
        default=False, text="reuse connections; by default each request opens a new one", kind=bool
    )
    itl_sample: str = _measurement(
        "auto",
        "share of streams that are read token by token, from 0 to 1; 'auto' reads as many as make up 20,000 tokens/s",
        metavar="share",
    )
    insecure: bool = _endpoint(default=False, text="do not verify the server's TLS certificate", kind=bool)
    tokenizer: str | None = _measurement(
        None, "local tokenizer.json, or its folder, to count tokens if the server reports no usage", metavar="path"
    )
    connect_timeout: float = _time_outs(10.0, "maximum time to open a connection, including TLS")
    first_byte_timeout: float = _time_outs(300.0, "maximum time from a request to the first byte of its answer")
    idle_timeout: float = _time_outs(60.0, "maximum time between two reads of an answer")
    total_timeout: float = _time_outs(1800.0, "maximum time for a whole request")
    steps: str = _sweep(
        "auto",
        "number of users in each step of a sweep, for example 1,2,4,8; 'auto' doubles it until throughput stops "
        "growing",
        metavar="list",
    )
    step_time: float = _sweep(
        60.0,
        "duration of a step of a sweep; up to three times as long if its figures need that",
        float,
        metavar="seconds",
    )
    precision: str = _sweep(
        "2%", "a step of a sweep ends once its throughput is known to within this share", metavar="share"
    )
    slo: str | None = _measurement(
        None,
        "latency limits for goodput, for example ttft_ms=500,tpot_ms=50,e2e_ms=10000; a sweep ends when they are "
        "no longer met",
        metavar="limits",
        web_ui=True,
    )
    rate: float | None = _open_loop(None, "requests per second of an open loop", float, web_ui=True)
    arrivals: str = _open_loop(
        "poisson",
        "arrivals of an open loop: 'poisson', 'constant', or 'gamma' with --gap-cv",
        metavar="process",
        web_ui=True,
    )
    gap_cv: float | None = _open_loop(
        None, "coefficient of variation of the gaps between gamma arrivals; above 1, arrivals come in bursts", float
    )
    max_in_flight: int = _open_loop(1024, "maximum number of requests in flight; those due beyond it are dropped", int)
    metrics: str = _results(
        "127.0.0.1:9646",
        "address at which Prometheus finds the run's metrics, or 'off'; if the port is taken, the next free one is "
        "used",
        metavar="ADDR:PORT",
    )
    metrics_names: str = _results(
        "llmload", "names of the metrics: 'llmload', or 'otel' for OpenTelemetry's", metavar="name"
    )
    price_per_gpu_hour: float | None = _results(
        None, "price of one GPU for an hour, in any currency, to compute the cost of a million output tokens", float
    )
    grafana: str | None = _results(
        None,
        "address of a Grafana with our dashboards, for links to the run, for example http://127.0.0.1:3000; with "
        "GRAFANA_TOKEN set, the run and its steps are annotated there",
        metavar="URL",
    )
    results: str = _results("results", "parent folder of the run's results folder", metavar="folder")

    def eager_share(self, users: int, tokens_per_second: float | None) -> float:
        """Return the share of streams that are read token by token; one user's always are.

        ``tokens_per_second`` is the rate of one stream in the warm-up, None if that did not tell.
        """
        if users == 1:
            return 1.0
        if self.itl_sample == "auto":
            expected = users * (tokens_per_second or ASSUMED_TOKENS_PER_SECOND)
            return min(1.0, EAGER_TOKENS_PER_SECOND / expected)
        return float(self.itl_sample)

    @property
    def cv(self) -> float:
        """Coefficient of variation of the gaps between arrivals."""
        return {"constant": 0.0, "poisson": 1.0}.get(self.arrivals, self.gap_cv or 1.0)

    @property
    def stream(self) -> bool:
        """Whether answers are asked for as a stream of events."""
        return not self.no_stream


def resolve(raw: Mapping[str, Any]) -> Scenario:
    """Build a scenario from raw values of flags, environment or a web form (where everything is a string).

    Raises OptionError, which names the flag, for a value that is not valid and for flags that contradict each other.
    """
    known = {f.name: _coerced(f.name, f.metadata["kind"], raw[f.name]) for f in fields(Scenario) if f.name in raw}
    scenario = Scenario(**{name: value for name, value in known.items() if value is not None})
    _check_numbers(scenario)
    _check_texts(scenario)
    _check_choices(scenario)
    _check_combinations(scenario)
    return scenario


def flag(name: str) -> str:
    """Return the command-line flag of a field."""
    return "--" + name.replace("_", "-")


def _coerced(name: str, kind: type, value: object) -> Any:  # noqa: ANN401 one of str, int, float, bool, None
    if value is None or value == "":
        return None
    if kind is list:
        return _lines(name, value)
    if kind is bool:
        return value if isinstance(value, bool) else str(value).lower() in {"1", "true", "on", "yes"}
    try:
        return kind(value)
    except (ValueError, TypeError, OverflowError):  # a worker's master may send anything
        article = {int: "a whole number", float: "a number"}[kind]
        raise OptionError(f"{flag(name)} must be {article}, got {value!r}.") from None


def _lines(name: str, value: object) -> tuple[str, ...]:
    """Return the values of an option that may be repeated; in a variable they are one per line."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(one, str) for one in values):
        raise OptionError(f"{flag(name)} must be text.")
    return tuple(line.strip() for one in values for line in one.splitlines() if line.strip())


def _check_numbers(s: Scenario) -> None:
    for name in ("sample", "requests", "max_tokens", "max_in_flight"):
        value = getattr(s, name)
        if value is not None and value < 1:
            raise OptionError(f"{flag(name)} must be at least 1, got {value}.")
    _check_positive(s)
    if s.warmup < 0:
        raise OptionError(f"--warmup must be 0 or more, got {s.warmup}.")
    for name in ("connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout"):
        if not 0 < getattr(s, name) <= LONGEST_TIMEOUT_S:
            got = getattr(s, name)
            raise OptionError(f"{flag(name)} must be above 0 and at most {LONGEST_TIMEOUT_S} seconds, got {got}.")
    if not 0 <= s.temperature < float("inf"):
        raise OptionError(f"--temperature must be 0 or more, got {s.temperature}.")
    if s.top_p is not None and not 0 < s.top_p <= 1:
        raise OptionError(f"--top-p must be above 0 and at most 1, got {s.top_p:g}.")
    if not 0 <= s.wait_ready <= LONGEST_TIMEOUT_S:
        raise OptionError(f"--wait-ready must be from 0 to {LONGEST_TIMEOUT_S} seconds, got {s.wait_ready:g}.")


def _check_positive(s: Scenario) -> None:
    for name in ("rate", "gap_cv", "step_time", "price_per_gpu_hour"):
        value = getattr(s, name)
        if value is not None and not 0 < value < float("inf"):
            raise OptionError(f"{flag(name)} must be above 0, got {value:g}.")
    if s.step_time < SHORTEST_STEP_S:
        raise OptionError(f"--step-time must be at least {SHORTEST_STEP_S:g} s, got {s.step_time:g}.")


def _check_texts(s: Scenario) -> None:
    """Parse the values that have a syntax; each error gets the name of its flag."""
    with OptionError.naming(f"--steps {s.steps!r}:"):
        parse_steps(s.steps)
    with OptionError.naming("--precision"):
        parse_precision(s.precision)
    if s.slo is not None:
        with OptionError.naming("--slo:"):
            parse_slo(s.slo)
    if s.grafana is not None:
        with OptionError.naming("--grafana:"):  # without the address: it may contain credentials
            _check_grafana(s.grafana)
    with OptionError.naming(f"--metrics {s.metrics}:"):
        parse_address(s.metrics)
    _check_request_texts(s)


def _check_request_texts(s: Scenario) -> None:
    """Parse the values that shape a request; no error repeats what may be secret."""
    for text in s.header:
        with OptionError.naming("--header:"):
            parse_header(text)
    if s.endpoint is not None:
        with OptionError.naming("--endpoint:"):
            _check_route(s.endpoint)
    if s.extra_body is not None:
        with OptionError.naming("--extra-body:"):
            _check_extra_body(parse_patch(s.extra_body))
    if s.system_prompt is not None:
        with OptionError.naming("--system-prompt:"):
            _check_utf8(s.system_prompt)


def _check_route(route: str) -> None:
    """Raise ValueError for what is no path below a base URL."""
    path, _, query = route.partition("?")
    if "@" in path or "://" in route:
        raise ValueError("write a path, as in /chat/completions; the server is --host.")
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path or "#" in route:
        raise ValueError("a path must begin with / and be printable ASCII; write other characters as %XX.")
    check_query(query)


def _check_extra_body(body: Mapping[str, Any]) -> None:
    """Raise ValueError for fields that an option of their own sets."""
    for name, way_out in (("model", "--model"), ("stream", "--no-stream"), ("messages", "--dataset")):
        if name in body:
            raise ValueError(f"{name} is set by {way_out}.")
    for name in ("max_tokens", "max_completion_tokens"):
        if body.get(name) is not None:  # null leaves it out, for a server that knows no limit
            raise ValueError(f"{name} is set by --max-tokens, its name by --max-tokens-field.")
    check_no_secrets(body)


def _check_utf8(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it cannot be encoded as UTF-8.") from None


_CHOICES: Mapping[str, Any] = {
    "client": Client,
    "auth": Auth,
    "max_tokens_field": LimitField,
    "metrics_names": MetricsNames,
    "arrivals": ArrivalProcess,
}
"""Options with few values."""


def _check_choices(s: Scenario) -> None:
    for name, choices in _CHOICES.items():
        if (value := getattr(s, name)) not in get_args(choices):
            raise OptionError(f"{flag(name)} must be one of {', '.join(get_args(choices))}, got {value!r}.")
    if s.itl_sample != "auto" and not _is_share(s.itl_sample):
        raise OptionError(f"--itl-sample must be 'auto' or a number from 0 to 1, got {s.itl_sample!r}.")
    if s.gap_cv is not None and not SMALLEST_CV <= s.gap_cv <= LARGEST_CV:
        raise OptionError(f"--gap-cv must be from {SMALLEST_CV:g} to {LARGEST_CV:g}, got {s.gap_cv:g}.")


def _check_combinations(s: Scenario) -> None:
    if (s.arrivals == "gamma") != (s.gap_cv is not None):
        raise OptionError(
            "--gap-cv and --arrivals gamma belong together; the CV of constant gaps is 0, of Poisson gaps 1."
        )
    if s.client == "openai" and s.keep_alive:
        raise OptionError("--keep-alive is for the own client: the openai SDK pools its connections itself. Drop one.")
    if s.client_key is not None and s.client_cert is None:
        raise OptionError("--client-key needs --client-cert, the certificate that it belongs to.")
    if s.tokenizer is not None and not Path(s.tokenizer).exists():
        raise OptionError(f"--tokenizer: {s.tokenizer} does not exist; name a tokenizer.json or the folder it is in.")


def _check_grafana(address: str) -> None:
    """Raise ValueError unless an address is an HTTP or HTTPS URL without credentials, query and fragment.

    The text of the error does not repeat the address, which may contain a secret.
    """
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of brackets and of ports
        is_address = False
    if not is_address or "@" in address or "?" in address or "#" in address or not address.isprintable():
        raise ValueError("write its address, without credentials, as in http://127.0.0.1:3000.")


def parse_address(text: str) -> tuple[str, int] | None:
    """Return host and port of ``ADDR:PORT``, None for ``off``; raises ValueError for anything else."""
    if text == "off":
        return None
    address, _, port = text.rpartition(":")
    if not address or not (port.isascii() and port.isdigit()) or int(port) > LAST_PORT:
        raise ValueError("write ADDR:PORT, as in 127.0.0.1:9646, or 'off'.")
    return address.strip("[]"), int(port)


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
