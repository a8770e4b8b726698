"""``grafana/``: what it holds is up to date, Prometheus takes it, and each query has an answer while runs go on."""

import copy
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cluster import FEW, Started, Starter, engine
from conftest import ROOT, clean_environment, free_port
from prometheus import Prometheus, prometheus

from engines import llamacpp, lmdeploy, sglang, tensorrt_llm, tgi, vllm

sys.path.insert(0, str(ROOT / "grafana"))
from boards.names import GPU, LOADGEN, METRICS, RULES
from boards.scraping import ENGINES
from generate import expressions

GRAFANA = ROOT / "grafana"
PROMETHEUS = GRAFANA / "prometheus"

Json = dict[str, Any]

DASHBOARDS: dict[str, Json] = {
    path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))
}
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

each_dashboard = pytest.mark.parametrize("name", DASHBOARDS)


def panels(name: str) -> list[Json]:
    """All that show something."""
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]


def rules() -> list[Json]:
    return [
        rule for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
    ]


def names_of(expression: str) -> set[str]:
    """Ours, found in another way than the generator finds them."""
    found = set(re.findall(r"(?<![\w:])(?:(?:llmload|gpu)_\w+|(?:engine|gpu):\w+|up\b|ALERTS\b)", expression))
    found = {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}
    return {name for name in found if not re.search(rf'"/?{name}"', expression)}


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
    (link,) = dashboard["links"]
    assert (link["tags"], link["keepTime"], link["includeVars"]) == (["llmload"], True, True)
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
    titles = [panel["title"] for panel in panels(name)]
    for panel in panels(name):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters)), panel["title"]
    assert all(titles)


@each_dashboard
def test_every_panel_says_what_it_shows_in_which_unit_and_from_where(name: str) -> None:
    for panel in panels(name):
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
    asking = [*panels(name), *(target for panel in panels(name) for target in panel["targets"])]
    asking += [variable for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    asking += [annotation for annotation in dashboard["annotations"]["list"] if "expr" in annotation]
    assert [one["datasource"] for one in asking] == [chosen] * len(asking)


@each_dashboard
def test_what_divides_is_above_zero(name: str) -> None:
    for expression in expressions(DASHBOARDS[name]):
        for divisor in expression.split(" / ")[1:]:
            assert re.match(r"\(.*> 0\)", divisor), expression


@pytest.mark.parametrize("name", ["run", "engine-and-gpu", "instrument"])
def test_steps_are_marked_at_the_time_that_is_their_value(name: str) -> None:
    marks = [a for a in DASHBOARDS[name]["annotations"]["list"] if "expr" in a]
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
    assert set(jobs) == {"loadgen", "gpu", "dcgm", *KINDS}
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


def test_monitor_starts_prometheus_on_this_machine_only_and_says_what_else_to_do(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus, which scripts/test installs")
    port = free_port()
    environment = clean_environment(XDG_STATE_HOME=str(tmp_path), PORT=str(port))
    log = tmp_path / "log"
    with (
        log.open("wb") as out,
        subprocess.Popen([ROOT / "scripts/monitor"], env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            server, due = Prometheus(f"http://127.0.0.1:{port}"), time.monotonic() + 30
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < due
                try:
                    flags = server.get("status/flags")
                    break
                except OSError:
                    time.sleep(0.1)
            assert flags["web.listen-address"] == f"127.0.0.1:{port}"
            data = tmp_path / "loadgen" / "prometheus"
            assert Path(flags["storage.tsdb.path"]) == data
            assert "targets:\n    - 127.0.0.1:9646" in server.get("status/config")["yaml"]
            assert {group["name"] for group in server.get("rules")["groups"]} >= {"vllm", "dcgm", "load-generator"}
        finally:
            process.terminate()
    said = log.read_text()
    assert f"http://127.0.0.1:{port}" in said
    assert str(data) in said
    assert "Ctrl-C stops it" in said
    assert "docker compose -f grafana/compose.yml up -d" in said


def test_monitor_says_how_to_get_prometheus_where_there_is_none(tmp_path: Path) -> None:
    for program in ("sh", "dirname", "cat"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    command = [str(ROOT / "scripts" / "monitor")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "apt-get install prometheus" in done.stderr
    assert list(tmp_path.glob("**/prometheus")) == []


# ---- all of it, in a real Prometheus, while real runs go on


def others(seconds: float) -> str:
    """What an engine and a GPU exporter tell after some time; vLLM's names, and all that are normalised for GPUs."""
    gpu, own = 'gpu="0",uuid="GPU-1"', 'model_name="m",engine="0"'
    values = {
        f'gpu_info{{{gpu},name="NVIDIA H100"}}': 1.0,
        f'gpu_clock_hertz{{{gpu},domain="sm"}}': 1.98e9,
        f'gpu_throttle_active{{{gpu},reason="sw_power_cap"}}': 1.0,
        f'gpu_pcie_bytes_total{{{gpu},direction="tx"}}': 1e6 * seconds,
        f'gpu_nvlink_bytes_total{{{gpu},direction="tx"}}': 1e6 * seconds,
        f'gpu_process_memory_bytes{{{gpu},pid="7"}}': 1e9,
        f"gpu_energy_joules_total{{{gpu}}}": 500 * seconds,
        'gpu_exporter_field_supported{gpu="0",field="gpu_sm_active_ratio"}': 0.0,
        f"vllm:num_requests_running{{{own}}}": 4.0,
        f"vllm:num_requests_waiting{{{own}}}": 1.0,
        f"vllm:kv_cache_usage_perc{{{own}}}": 0.5,
        f"vllm:prompt_tokens_total{{{own}}}": 100 * seconds,
        f"vllm:generation_tokens_total{{{own}}}": 200 * seconds,
    }
    told = {name.partition("{")[0] for name in values}
    values |= {f"{name}{{{gpu}}}": 0.5 for name in sorted(GPU - told)}
    return "".join(f"{name} {value}\n" for name, value in values.items())


@contextmanager
def others_served() -> Iterator[str]:
    began = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(others(time.monotonic() - began).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def metrics_of(run: Started) -> str:
    due = time.monotonic() + 30
    while (said := re.search(r"Metrics: http://(\S+)", run.said)) is None:
        assert run.process.poll() is None, run.said
        assert time.monotonic() < due
        time.sleep(0.05)
    return said.group(1)


RANGE_S = 120


def asked(server: Prometheus, target: Mapping[str, Any], run: Started) -> list[list[float]]:
    """Ask as Grafana does; return the values of each series that comes."""
    chosen = {"$run_id": run.folder.name, "$runs": ".*", "$__rate_interval": "8s", "$__range": f"{RANGE_S}s"}
    chosen |= dict.fromkeys(("$engine", "$model", "$instance", "$gpu"), ".*")
    expression = target["expr"]
    for name, value in chosen.items():
        expression = expression.replace(name, value)
    assert "$" not in expression.replace('"$1"', ""), expression
    if target.get("instant"):
        return [[float(one["value"][1])] for one in server.query(expression)]
    now = time.time()
    found = server.get("query_range", query=expression, start=now - RANGE_S, end=now, step=1)["result"]
    return [[float(value) for _, value in one["values"]] for one in found]


def values_of(server: Prometheus, definition: str) -> list[str]:
    """Ask for the values of a variable."""
    asks = re.fullmatch(r"label_values\((.+), (\w+)\)", definition)
    assert asks is not None, definition
    match = re.sub(r"\$\w+", ".*", asks.group(1))
    found: list[str] = server.get(f"label/{asks.group(2)}/values", **{"match[]": match})
    return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, list[Started]]]:
    """Return a Prometheus with our rules, and the runs it has seen: a sweep with limits, and a failing open loop."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "rules").mkdir()
    for path in RULE_FILES:
        hurried = path.read_text().replace("    rules:\n", "    interval: 1s\n    rules:\n")
        (folder / "rules" / path.name).write_text(hurried)
    starter = Starter(folder)
    common = ("--headless", "--metrics", "127.0.0.1:0")
    with ExitStack() as held:
        held.callback(starter.end)
        for name in ("good", "bad"):
            (folder / name).mkdir()
        good = held.enter_context(engine(folder / "good", ttft_ms=20, itl_ms=2))
        bad = held.enter_context(engine(folder / "bad", ttft_ms=20, itl_ms=2, fail_at=5))
        steps = ("--steps", "2,4", "--step-time", "10", "--sample", "30", "--max-tokens", "8", "--warmup", "1")
        slo = ("--slo", "ttft_ms=21,e2e_ms=1000")
        sweep = ROOT / "locustfiles" / "sweep.py"
        starter("--host", good.host, *steps, *slo, *common, name="sweep", locustfile=sweep)
        rate = ("--rate", "10", "--run-time", "20s", *FEW)
        starter("--host", bad.host, *rate, *common, name="rate", locustfile=ROOT / "locustfiles" / "rate.py")
        others_at = held.enter_context(others_served())
        jobs = {run.results.parent.name: metrics_of(run) for run in starter.started}
        jobs |= dict.fromkeys(("gpu", "vllm"), f"{others_at}/metrics")
        server = held.enter_context(prometheus(folder / "prometheus", jobs, folder / "rules" / "*.yml"))
        server.wait_until_up(jobs)
        for run in starter.started:
            run.wait()
        yield server, starter.started


@each_dashboard
def test_every_query_of_a_dashboard_has_an_answer_and_none_is_not_a_number(
    watched: tuple[Prometheus, list[Started]], name: str
) -> None:
    server, runs = watched
    board = DASHBOARDS[name]
    targets = [target for panel in panels(name) for target in panel["targets"]]
    targets += [annotation for annotation in board["annotations"]["list"] if "expr" in annotation]
    for target in targets:
        if "ALERTS" in target["expr"]:  # it depends on this machine whether one fires
            continue
        answers = [asked(server, target, run) for run in runs]
        assert any(answers), target["expr"]
        assert all(value == value for series in answers for values in series for value in values), target["expr"]  # noqa: PLR0124
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert values_of(server, variable["definition"]), variable["name"]


def test_a_query_for_what_nobody_exports_has_no_answer(watched: tuple[Prometheus, list[Started]]) -> None:
    server, runs = watched
    assert asked(server, {"expr": 'llmload_in_flight{run_id="$run_id"}'}, runs[0]) == []


def test_figures_of_the_whole_run_are_those_of_its_summary(watched: tuple[Prometheus, list[Started]]) -> None:
    server, runs = watched
    titles = {panel["title"]: panel for panel in panels("run")}
    for run in runs:
        counted = run.summary["requests"]
        ((share,),) = asked(server, titles["Failed so far"]["targets"][0], run)
        ended = counted["completed"] + counted["failed"] + counted["aborted"] + counted["dropped"]
        assert share == pytest.approx(1 - counted["completed"] / ended)
    for name, key in (("TTFT", "ttft_ms"), ("TPOT", "tpot_ms"), ("E2E", "e2e_ms")):
        for target in titles[f"{name} of the run so far"]["targets"]:
            ((value,),) = asked(server, target, runs[0])
            assert value * 1000 == pytest.approx(runs[0].summary["latency"][key][target["legendFormat"]], rel=0.11)


def test_a_heat_map_has_the_buckets_between_the_least_and_the_greatest_value(
    watched: tuple[Prometheus, list[Started]],
) -> None:
    server, runs = watched
    titles = {panel["title"]: panel for panel in panels("run")}
    (target,) = titles["TTFT, all values"]["targets"]
    series = asked(server, target, runs[0])
    assert 2 <= len(series) < 60  # of more than 150
    assert len({len(values) for values in series}) == 1  # Grafana subtracts one from the next, by position
