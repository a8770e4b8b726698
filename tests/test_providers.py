"""Runs against servers that speak as hosted providers do: preflight, run and report of each."""

import pytest
from conftest import Locust, records_of
from providers import PROVIDERS, Provider
from serving import MODELS, response, serving

from loadgen import metrics
from loadgen.record import Outcome, Phase

FEW = ("--sample", "30", "--warmup", "2", "--max-tokens", "100")


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_a_provider_is_measured_as_it_is(locust: Locust, provider: Provider) -> None:
    with serving(provider.script, models=response(MODELS)) as server:
        done = locust(
            "--host", server.url + provider.path, *FEW, *provider.options, environment=dict(provider.environment)
        )
    measured = [r for r in records_of(done.folder) if r.phase is Phase.MEASURE]
    ok = [r for r in measured if r.outcome is Outcome.OK]
    failed = {r.outcome.value for r in measured} - {"ok"}
    assert len(measured) == 30
    assert failed == ({provider.failed} if provider.failed else set())
    assert done.status == (3 if failed else 0), done.err
    assert {(r.output_tokens, r.chunks) for r in ok} == {(provider.tokens, provider.chunks)}
    assert all((metrics.ttft_ms(r) is None) is (provider.chunks == 0) for r in ok)
    assert all(note in done.err for note in provider.notes)
    assert done.manifest["server"].get("adapted", []) == list(provider.notes)
    assert "completed" in (done.folder / "report.md").read_text()
    for secret in provider.environment.values():
        for path in done.results.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes()


def test_openais_refusal_of_a_temperature_names_the_way_out(locust: Locust) -> None:
    provider = PROVIDERS["openai"]
    with serving(provider.script, models=response(MODELS)) as server:
        done = locust("--host", server.url + "/v1", *FEW, environment=dict(provider.environment))
    assert done.status == 2
    assert "refuses the field temperature" in done.err
    assert """--extra-body '{"temperature": null}'""" in done.err
