"""The dashboard of what is measured: the engine's queue and cache, the GPUs, beside what the client gets."""

from boards.dashboard import STEPS, Dashboard, of_labels, run_variables
from boards.panels import NO_ENGINE, NO_ENGINE_VALUE, Panel, Query, Row, graph, table, timeline
from boards.queries import RUN, rate

_OUTPUT = f'{RUN}, type="output"'
_ENGINE = 'instance=~"$instance"'
_GPU = 'uuid=~"$gpu"'
_LEGEND = "{{engine_kind}} {{instance}}"
_NO_GPU = "No GPU exporter is scraped: start loadgen gpu-exporter on the engine's host"
_NO_ENERGY = "No answers, or no GPU exporter is scraped: start loadgen gpu-exporter on the engine's host"
_ONCE = "A GPU that two exporters report counts once."


def _of_gpus(metric: str, by: str = "") -> str:
    """Return each GPU once, whatever the number of exporters that tell of it."""
    return f"max by (gpu, uuid{by}) ({metric}{{{_GPU}}})"


def _each(name: str, metric: str) -> Query:
    return Query(_of_gpus(metric), f"GPU {{{{gpu}}}} {name}".strip())


def _gpu_graph(title: str, about: str, unit: str, metrics: dict[str, str], *, most: float | None = None) -> Panel:
    defaults = {} if most is None else {"max": most}
    queries = [_each(name, metric) for name, metric in metrics.items()]
    return graph(title, about, unit, queries, defaults=defaults, no_value=_NO_GPU)


def _engine() -> Row:
    queue = [
        Query(f"engine:requests_running{{{_ENGINE}}}", f"{_LEGEND} running"),
        Query(f"engine:requests_waiting{{{_ENGINE}}}", f"{_LEGEND} waiting"),
        Query(f"sum (llmload_in_flight_requests{{{RUN}}})", "in flight, by the client"),
    ]
    answered = [
        Query(f"rate(engine:generation_tokens_total{{{_ENGINE}}}[$__rate_interval])", f"{_LEGEND} generated"),
        Query(rate("llmload_tokens_total", _OUTPUT), "client received"),
    ]
    read = [
        Query(f"rate(engine:prompt_tokens_total{{{_ENGINE}}}[$__rate_interval])", f"{_LEGEND} prefilled"),
        Query(rate("llmload_tokens_total", f'{RUN}, type="input"'), "client sent"),
    ]
    running = f"engine:requests_running{{{_ENGINE}}}"
    generated = f"rate(engine:generation_tokens_total{{{_ENGINE}}}[$__rate_interval])"
    seen = f"last_over_time({running}[$__range]) * 0"  # its labels name the engine, those of "up" do not
    return Row(
        "Engine, beside the client",
        [
            graph(
                "Batch and queue",
                "Requests that the engine works on, which is its batch, and those that wait in it; beside what the "
                "client waits for. TGI tells the size of its batch.",
                "none",
                queue,
                no_value=NO_ENGINE,
            ),
            graph(
                "KV cache in use",
                "Where it is full, requests wait or are preempted. TGI and llama.cpp do not export it.",
                "percentunit",
                [Query(f"engine:kv_cache_usage_ratio{{{_ENGINE}}}", _LEGEND)],
                defaults={"max": 1},
                no_value=NO_ENGINE_VALUE,
            ),
            graph(
                "Output tokens per second",
                "By the engine, as they are made, and by the client, when the answer ends. Others' requests are in the "
                "engine's figure.",
                "suffix: tok/s",
                answered,
            ),
            graph(
                "Prompt tokens per second",
                "By the engine, as it reads them, and by the client, when the answer ends.",
                "suffix: tok/s",
                read,
            ),
            graph(
                "Output tokens per second per running request",
                "The engine's rate over its batch: what one request gets while it runs.",
                "suffix: tok/s",
                [Query(f"{generated} / ({running} > 0)", _LEGEND)],
                no_value=NO_ENGINE,
            ),
            timeline(
                "Engine up (scrape succeeds)",
                "Whether Prometheus can scrape each engine whose metrics it has in this time range.",
                [Query(f"{seen} + on (job, instance) group_left () up", _LEGEND)],
                colour="green",
                no_value=NO_ENGINE,
            ),
        ],
    )


def _energy() -> Row:
    watts, tokens = (
        f"sum (max by (uuid) (gpu_power_watts{{{_GPU}}}))",
        f"sum (rate(llmload_tokens_total{{{_OUTPUT}}}[1m]))",
    )
    joules = f"sum (max by (uuid) (rate(gpu_energy_joules_total{{{_GPU}}}[1m])))"
    requests = f'sum (rate(llmload_requests_total{{{RUN}, outcome="ok"}}[1m]))'
    price = f"max (llmload_price_per_gpu_hour{{{RUN}}})"
    per_hour = f"{price} * on () count (max by (uuid) (gpu_info{{{_GPU}}}))"
    whole = "Of all GPUs that are chosen above, idle power included: choose those that serve the model, and let nobody "
    whole += "else use them."
    return Row(
        "Energy, beside the client's throughput",
        [
            graph(
                "Power",
                f"What each GPU takes, and its limit. The board only, not the machine. {_ONCE}",
                "watt",
                [_each("", "gpu_power_watts"), _each("limit", "gpu_power_limit_watts"), Query(watts, "together")],
                no_value=_NO_GPU,
            ),
            graph(
                "Energy per output token",
                f"By the GPUs' energy counters, over the last minute. {whole} The run's report has it for the measured "
                "window.",
                "suffix: J/token",
                [Query(f"{joules} / ({tokens} > 0)", "per output token")],
                no_value=_NO_ENERGY,
            ),
            graph(
                "Energy per request",
                f"The same for answers that end well. {whole}",
                "suffix: J",
                [Query(f"{joules} / ({requests} > 0)", "per request")],
                no_value=_NO_ENERGY,
            ),
            graph(
                "Output tokens per joule",
                f"Over the last minute; it is tokens per second for each watt. {whole}",
                "suffix: tok/J",
                [Query(f"{tokens} / ({joules} > 0)", "output")],
                no_value=_NO_ENERGY,
            ),
            graph(
                "Output tokens per second, by the client",
                "The same tokens, over time, for comparison.",
                "suffix: tok/s",
                [Query(tokens, "output")],
            ),
            graph(
                "Cost of a million output tokens",
                "The price of the chosen GPUs over the last minute's tokens.",
                "suffix: /M tokens",
                [Query(f"1000000 * {per_hour} / (3600 * {tokens} > 0)", "output")],
                no_value="No --price-per-gpu-hour, no answers, or no GPU exporter is scraped",
            ),
        ],
    )


def _gpu() -> Row:
    memory = {"used": "gpu_memory_used_bytes", "of": "gpu_memory_total_bytes"}
    busy = {"": "gpu_utilization_ratio", "SM": "gpu_sm_active_ratio", "tensor": "gpu_tensor_active_ratio"}
    bandwidth = {
        "of its bandwidth": "gpu_memory_bandwidth_utilization_ratio",
        "of the time": "gpu_memory_utilization_ratio",
    }
    return Row(
        "GPU",
        [
            _gpu_graph(
                "Utilisation",
                "Share of the time in which anything ran; SM: share of the multiprocessors that had work; tensor: "
                f"share of the time in which tensor cores computed. {_ONCE}",
                "percentunit",
                busy,
                most=1,
            ),
            _gpu_graph(
                "Memory bandwidth",
                "Share of its bandwidth that is used, which bounds decoding; and share of the time in which memory was "
                "read or written at all.",
                "percentunit",
                bandwidth,
                most=1,
            ),
            _gpu_graph("Memory", "Used, and what there is.", "bytes", memory),
            graph(
                "Memory by process",
                "Who else uses a GPU shows here.",
                "bytes",
                [Query(_of_gpus("gpu_process_memory_bytes", ", pid"), "GPU {{gpu}} pid {{pid}}")],
                stacked=True,
                no_value=_NO_GPU,
            ),
            graph(
                "Clocks",
                "Of the multiprocessors and of the memory.",
                "hertz",
                [Query(_of_gpus("gpu_clock_hertz", ", domain"), "GPU {{gpu}} {{domain}}")],
                no_value=_NO_GPU,
            ),
            timeline(
                "Throttling reasons",
                "Why the driver keeps a GPU's clocks low. gpu_idle is no fault. dcgm-exporter does not tell it.",
                [Query(_of_gpus("gpu_throttle_active", ", reason"), "GPU {{gpu}} {{reason}}")],
                colour="orange",
                no_value=_NO_GPU,
            ),
            _gpu_graph("Temperature", "Of the chip.", "celsius", {"": "gpu_temperature_celsius"}),
            graph(
                "PCIe and NVLink",
                "Read and written by each GPU, over all of its links.",
                "Bps",
                [
                    Query(_of_gpus("gpu:pcie_bytes_per_second", ", direction"), "GPU {{gpu}} PCIe {{direction}}"),
                    Query(_of_gpus("gpu:nvlink_bytes_per_second", ", direction"), "GPU {{gpu}} NVLink {{direction}}"),
                ],
                no_value=_NO_GPU,
            ),
            table(
                "GPUs",
                "Which there are.",
                "none",
                {"Exporters": Query(f"count by (gpu, uuid, name) (gpu_info{{{_GPU}}})", form="table", instant=True)},
                renamed={"gpu": "GPU", "name": "Name", "uuid": "UUID"},
                height=6,
                no_value=_NO_GPU,
            ),
            table(
                "Values that the GPUs do not report",
                "Values that the GPU exporter asked for in vain: they are missing above, they are not 0.",
                "none",
                {"Told": Query("gpu_exporter_field_supported == 0", form="table", instant=True)},
                renamed={"gpu": "GPU", "field": "Value", "instance": "Exporter"},
                without=["Told"],
                height=6,
                no_value="They report all values, or no GPU exporter is scraped",
            ),
        ],
    )


DASHBOARD = Dashboard(
    uid="llmload-engine-and-gpu",
    title="Engine and GPU",
    about="What the engine and its GPUs do during a run, beside what the client gets.",
    rows=[_engine(), _energy(), _gpu()],
    variables=[
        *run_variables(),
        of_labels("instance", "Engine's address", "engine:requests_running", "instance"),
        of_labels("gpu", "GPU", "gpu_info", "uuid"),
    ],
    annotations=STEPS,
)
