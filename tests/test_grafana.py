"""``grafana/``: what it holds is up to date, of the right form, and Prometheus takes it."""

import copy
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import jsonschema
import pytest
import yaml
from boards.names import ALERTS, GPU, LOADGEN, METRICS, RULES
from boards.queries import cells
from boards.scraping import ENGINE_JOBS, ENGINES
from conftest import ROOT, clean_environment, free_port
from dashboards import DASHBOARDS, GRAFANA, Json, annotations, asking_variables, each_dashboard, names_of, panels
from generate import expressions
from prometheus import Prometheus

from loadgen.engines import llamacpp, lmdeploy, sglang, tensorrt_llm, tgi, vllm
from loadgen.exporter.buckets import BOUNDS_S
from loadgen.launch.simulated import start_simulated
from loadgen.measure import statistics

T = TypeVar("T")
PROMETHEUS = GRAFANA / "prometheus"

CONFIGS = ("prometheus.yml", "prometheus.compose.yml")
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
KINDS = {
    "vllm": vllm.METRICS,
    "sglang": sglang.METRICS,
    "tgi": tgi.METRICS,
    "llamacpp": llamacpp.METRICS,
    "lmdeploy": lmdeploy.METRICS,
    "tensorrt-llm": tensorrt_llm.METRICS,
}


def rules() -> list[Json]:
    return [
        rule for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
    ]


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    assert program is not None, "needs promtool, which the package prometheus brings; scripts/test installs it"
    done = subprocess.run([program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_generated_is_up_to_date_and_a_change_by_hand_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "grafana/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shutil.copytree(GRAFANA, tmp_path / "grafana", ignore=shutil.ignore_patterns("__pycache__"))
    changed = tmp_path / "grafana" / "dashboards" / "run.json"
    changed.write_text(changed.read_text().replace("llmload_step_active", "llmload_step_is_active"))
    (tmp_path / "grafana" / "prometheus" / "prometheus.yml").unlink()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = [line.partition(" ")[0] for line in done.stdout.splitlines()]
    assert said == ["grafana/dashboards/run.json", "grafana/prometheus/prometheus.yml"]


@each_dashboard
def test_a_dashboard_is_of_grafanas_schema(name: str) -> None:
    dashboard = copy.deepcopy(DASHBOARDS[name])
    for variable in dashboard["templating"]["list"]:  # these are missing in Grafana's types; Grafana reads them
        variable.pop("definition", None)
    for annotation in dashboard["annotations"]["list"]:
        for key in ("expr", "step", "useValueForTime", "titleFormat", "textFormat", "tagKeys"):
            annotation.pop(key, None)
    schema = json.loads((GRAFANA / "schema" / "dashboard.json").read_text())
    jsonschema.Draft7Validator(schema).validate(dashboard)
    dashboard["panels"][1]["titel"] = "?"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(dashboard)


@each_dashboard
def test_a_dashboard_is_of_the_classic_model_and_leads_to_the_others(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["uid"] == f"llmload-{name}"
    assert dashboard["id"] is None
    assert dashboard["schemaVersion"] == 39
    assert dashboard["graphTooltip"] == 1
    assert dashboard["tags"] == ["llmload"]
    link, runs = dashboard["links"]
    assert (link["tags"], link["keepTime"], link["includeVars"]) == (["llmload"], True, True)
    assert runs["url"] == "/d/llmload-compare-runs/compare-runs?from=now-7d&to=now"
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert variables[:4] == ["datasource", "engine", "model", "runs" if name == "compare-runs" else "run_id"]
    if name != "compare-runs":
        assert (dashboard["refresh"], dashboard["time"]["from"]) == ("5s", "now-15m")


@each_dashboard
def test_panels_do_not_overlap_and_stay_within_24_columns(name: str) -> None:
    placed = [panel["gridPos"] for panel in DASHBOARDS[name]["panels"]]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= 24 and p["h"] > 0 for p in placed)
    for a, b in combinations(placed, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


@each_dashboard
def test_ids_titles_and_references_are_unique(name: str) -> None:
    ids = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in panels(DASHBOARDS[name])]
    for panel in panels(DASHBOARDS[name]):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters)), panel["title"]
    assert all(titles)


@each_dashboard
def test_every_panel_says_what_it_shows_in_which_unit_and_from_where(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert names_of(target["expr"]) <= set(re.findall(r"`([\w:]+)`", panel["description"])), panel["title"]
        assert "Unit: " in panel["description"], panel["title"]
        assert len(panel["description"].partition("\n")[0]) > 8, panel["title"]


@each_dashboard
def test_everything_asks_the_chosen_data_source(name: str) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    dashboard = DASHBOARDS[name]
    asking = [*panels(DASHBOARDS[name]), *(target for panel in panels(DASHBOARDS[name]) for target in panel["targets"])]
    asking += asking_variables(dashboard) + annotations(dashboard)
    assert [one["datasource"] for one in asking] == [chosen] * len(asking)


@each_dashboard
def test_what_divides_is_above_zero(name: str) -> None:
    for expression in expressions(DASHBOARDS[name]):
        for divisor in expression.split(" / ")[1:]:
            assert re.match(r"\(.*> 0\)", divisor), expression


@pytest.mark.parametrize("name", ["run", "engine-and-gpu", "instrument"])
def test_steps_are_marked_at_the_time_that_is_their_value(name: str) -> None:
    marks = annotations(DASHBOARDS[name])
    assert [mark["expr"] for mark in marks] == [
        'llmload_step_start_timestamp_seconds{run_id=~"$run_id"} * 1000',
        'llmload_run_start_timestamp_seconds{run_id=~"$run_id"} * 1000',
    ]
    assert all(mark["useValueForTime"] and mark["step"] == "5s" for mark in marks)


def test_queries_ask_for_all_that_is_exported_and_for_nothing_else() -> None:
    asked = {name for board in DASHBOARDS.values() for text in expressions(board) for name in names_of(text)}
    assert asked <= METRICS
    assert asked >= LOADGEN | RULES
    rated = {"gpu_pcie_bytes_total", "gpu_nvlink_bytes_total"}  # which a rule rates
    assert asked >= GPU - rated
    assert rated <= {name for rule in rules() for name in names_of(rule["expr"])}


@pytest.mark.parametrize("name", ["run", "compare-runs"])
def test_percentiles_need_as_many_values_as_in_reports(name: str) -> None:
    asked = [text for text in expressions(DASHBOARDS[name]) if text.startswith("histogram_quantile(")]
    needed = {re.fullmatch(r"histogram_quantile\(([\d.]+), .* >= (\d+)", text) for text in asked}
    assert {None if found is None else (float(found[1]), int(found[2])) for found in needed} == {
        (statistics.QUANTILES[p], statistics.SMALLEST_SAMPLE[p]) for p in ("p50", "p90", "p99")
    }


def test_the_alerts_that_are_shown_are_those_that_there_are() -> None:
    assert [rule["alert"] for rule in rules() if "alert" in rule] == list(ALERTS)


def test_rules_record_what_dashboards_take_from_them() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert recorded >= RULES
    assert recorded - RULES <= GPU
    asked = {name for rule in rules() for name in names_of(rule["expr"])}
    assert asked <= METRICS


@pytest.mark.parametrize("kind", KINDS)
def test_the_common_names_of_an_engine_come_from_the_metrics_that_its_module_names(kind: str) -> None:
    own = {rule["record"]: rule["expr"] for rule in rules() if rule.get("labels", {}).get("engine_kind") == kind}
    asked = {name: set(re.findall(r"\w+:\w+|\b(?:tgi|trtllm)_\w+", expression)) for name, expression in own.items()}
    known = KINDS[kind]
    assert asked["engine:requests_running"] == set(known.running)
    assert asked["engine:requests_waiting"] == set(known.waiting)
    assert asked["engine:prompt_tokens_total"] == set(known.prompt_tokens)
    assert asked["engine:generation_tokens_total"] == set(known.output_tokens)
    _, path, prefix = ENGINES[kind]
    assert path == known.path
    assert all(name.startswith(prefix) for names in asked.values() for name in names)


@pytest.mark.parametrize("config", CONFIGS)
def test_promtool_takes_the_configuration(config: str) -> None:
    promtool("check", "config", config)
    jobs = {job["job_name"]: job for job in yaml.safe_load((PROMETHEUS / config).read_text())["scrape_configs"]}
    assert set(jobs) == {"loadgen", "gpu", "dcgm", *ENGINE_JOBS}
    hosts = {
        target.partition(":")[0] for job in jobs.values() for one in job["static_configs"] for target in one["targets"]
    }
    assert hosts == ({"127.0.0.1"} if config == CONFIGS[0] else {"host.docker.internal", "dcgm-exporter"})


def test_promtool_takes_the_rules_and_their_tests_pass() -> None:
    promtool("check", "rules", *map(str, RULE_FILES))
    promtool("test", "rules", *map(str, sorted((PROMETHEUS / "tests").glob("*.yml"))))


def test_every_rule_has_a_test() -> None:
    tests = [
        test for path in (PROMETHEUS / "tests").glob("*.yml") for test in yaml.safe_load(path.read_text())["tests"]
    ]
    expected = [
        sample["labels"] for test in tests for one in test.get("promql_expr_test", ()) for sample in one["exp_samples"]
    ]
    fired = {one["alertname"] for test in tests for one in test.get("alert_rule_test", ()) if one["exp_alerts"]}
    for rule in rules():
        if "alert" in rule:
            assert rule["alert"] in fired
        else:
            labels = [f'{key}="{value}"' for key, value in rule.get("labels", {}).items()]
            wanted = [rule["record"] + "{", *labels]
            assert any(all(part in text for part in wanted) for text in expected), rule


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_engine_is_scraped_at_its_usual_port_and_at_added_addresses_by_one_job(kind: str, config: str) -> None:
    port, path, prefix = ENGINES[kind]
    jobs = yaml.safe_load((PROMETHEUS / config).read_text())["scrape_configs"]
    keeping = [
        job
        for job in jobs
        for rule in job.get("metric_relabel_configs", ())
        if re.fullmatch(rule["regex"], f"{prefix}something")
    ]
    (job,) = keeping
    assert job.get("metrics_path", "/metrics") == path
    assert any(target.endswith(f":{port}") for one in job["static_configs"] for target in one["targets"])
    assert job["file_sd_configs"] == [{"files": ["engines.json"]}]


def test_a_heat_map_of_one_value_has_the_buckets_around_it(tmp_path: Path) -> None:
    histogram, value_s = "llmload_time_to_first_token_seconds", 0.02
    query = cells(histogram).expr
    for name, value in {"$run_id": "r", "$__rate_interval": "20s", "$__range": "1m"}.items():
        query = query.replace(name, value)
    counted = {f"{bound:.6g}": int(value_s <= bound) for bound in BOUNDS_S} | {"+Inf": 1}
    series = [
        {"series": f'{histogram}_bucket{{run_id="r",le="{le}"}}', "values": f"0+{count}x24"}
        for le, count in counted.items()
    ]
    below = ["0.0121835", "0.0134649", "0.0148811", "0.0164462", "0.0181759"]
    above = ["0.0200875", "0.0222002", "0.0245351", "0.0271156", "0.0299675"]  # it is in the first of these
    expected = [{"labels": f'{{le="{le}"}}', "value": rate} for les, rate in ((below, 0), (above, 0.2)) for le in les]
    asked = {"expr": query, "eval_time": "1m", "exp_samples": expected}
    test = {"interval": "5s", "input_series": series, "promql_expr_test": [asked]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"evaluation_interval": "5s", "tests": [test]}))
    promtool("test", "rules", str(tmp_path / "test.yml"))


def test_containers_are_pinned_listen_on_this_machine_only_and_find_their_files() -> None:
    compose = yaml.safe_load((GRAFANA / "compose.yml").read_text())
    services = compose["services"]
    assert set(services) == {"prometheus", "grafana", "dcgm-exporter"}
    for service in services.values():
        assert re.search(r":v?\d+\.\d+\.\d+\S*$", service["image"]), service["image"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        for volume in service.get("volumes", ()):
            here = volume.partition(":")[0]
            assert (GRAFANA / here).is_dir() if here.startswith(".") else here in compose["volumes"]
    assert services["prometheus"]["extra_hosts"] == ["host.docker.internal:host-gateway"]
    assert services["dcgm-exporter"]["profiles"] == ["dcgm"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    scraped = yaml.safe_load((PROMETHEUS / CONFIGS[1]).read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/llmload.yaml").read_text())["providers"]
    assert f"./dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]


@dataclass
class Monitor:
    """``scripts/monitor``, running."""

    server: Prometheus
    state: Path
    process: "subprocess.Popen[bytes]"

    @property
    def said(self) -> str:
        return (self.state / "log").read_text()

    def wait(self, until: Callable[[], T | None]) -> T:
        """Wait for what Prometheus answers."""
        due = time.monotonic() + 300
        while True:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < due, self.said
            with suppress(OSError):
                if (answer := until()) is not None:
                    return answer
            time.sleep(0.1)


@contextmanager
def monitor(state: Path, *arguments: str) -> Iterator[Monitor]:
    """Run it until the block ends; ``state``: its folder for data, and for its output."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus, which scripts/test installs")
    port = free_port()
    environment = clean_environment(XDG_STATE_HOME=str(state), PORT=str(port))
    command = [ROOT / "scripts/monitor", *arguments]
    with (
        (state / "log").open("wb") as out,
        subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            yield Monitor(Prometheus(f"http://127.0.0.1:{port}"), state, process)
        finally:
            process.terminate()


def test_monitor_starts_prometheus_on_this_machine_only_and_says_what_else_to_do(tmp_path: Path) -> None:
    with monitor(tmp_path, "--query.timeout=7s") as started:
        flags = started.wait(lambda: started.server.get("status/flags"))
        port = started.server.url.rpartition(":")[2]
        assert flags["web.listen-address"] == f"127.0.0.1:{port}"
        assert flags["query.timeout"] == "7s"
        data = tmp_path / "loadgen" / f"prometheus-{port}"
        assert Path(flags["storage.tsdb.path"]) == data
        assert "targets:\n    - 127.0.0.1:9646" in started.server.get("status/config")["yaml"]
        assert {group["name"] for group in started.server.get("rules")["groups"]} >= {"vllm", "dcgm", "load-generator"}
    assert started.server.url in started.said
    assert str(data) in started.said
    assert "Ctrl-C stops it" in started.said
    assert "docker compose -f grafana/compose.yml up -d" in started.said


def test_monitor_scrapes_engines_that_are_named_and_gives_their_metrics_the_common_names(tmp_path: Path) -> None:
    with ExitStack() as held:
        addresses = []
        for name in ("one", "two"):
            engine = start_simulated(tmp_path / name)
            held.callback(engine.child.stop)
            addresses.append(engine.host.removeprefix("http://"))
        first, second = addresses
        ports = {address.partition(":")[2] for address in addresses}
        by_name = first.replace("127.0.0.1", "localhost")  # the same engine, and no second target
        arguments = ("--scrape", first, f"--scrape={second}", "--scrape", by_name)
        started = held.enter_context(monitor(tmp_path, *arguments))

        def running() -> dict[str, str] | None:
            series = [one["metric"] for one in started.server.query("engine:requests_running")]
            kinds = {labels["instance"]: labels["engine_kind"] for labels in series}
            return kinds if len(kinds) == len(series) == 2 else None

        assert started.wait(running) == {first: "vllm", second: "vllm"}
        targets = [one["metric"]["instance"] for one in started.server.query('up{job="engine"}')]
        assert sorted(target for target in targets if target.partition(":")[2] in ports) == sorted(addresses)
        assert f"Engines: those at their usual ports on this machine, and\n{first}, {second}" in started.said


@pytest.mark.parametrize(
    "address", ["", "8000", "host", "host:", "host:0", "host:65536", "http://host:8000", "host:8000/metrics", "a b:1"]
)
def test_monitor_refuses_what_is_not_host_and_port(address: str, tmp_path: Path) -> None:
    environment = clean_environment(XDG_STATE_HOME=str(tmp_path))
    for arguments in (["--scrape", address], [f"--scrape={address}"]):
        command = [ROOT / "scripts/monitor", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        told = address or '""'
        assert done.stderr == (
            f"scripts/monitor: --scrape {told} is not valid;\n"
            "write HOST:PORT with a port of 1 to 65535, such as 10.0.0.7:8000.\n"
        )
    assert list(tmp_path.iterdir()) == []


def test_monitor_names_the_flag_whose_value_is_missing_and_explains_itself() -> None:
    done = subprocess.run([ROOT / "scripts/monitor", "--scrape"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "scripts/monitor: --scrape needs an address;\nwrite HOST:PORT, such as 10.0.0.7:8000.\n",
    )
    done = subprocess.run([ROOT / "scripts/monitor", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(
        text in done.stdout for text in ("--scrape HOST:PORT", "PORT=9091", "All other arguments go to prometheus")
    )


def test_monitor_says_what_to_do_where_its_port_is_taken() -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus, which scripts/test installs")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command, environment = [ROOT / "scripts/monitor"], clean_environment(PORT=port)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} is taken" in done.stderr
    assert "PORT=9091 scripts/monitor" in done.stderr


def test_monitor_says_how_to_get_prometheus_where_there_is_none(tmp_path: Path) -> None:
    for program in ("sh", "dirname", "cat"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    command = [str(ROOT / "scripts" / "monitor")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "apt-get install prometheus" in done.stderr
    assert list(tmp_path.glob("**/prometheus")) == []
