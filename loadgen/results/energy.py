"""What a summary says of energy and cost: of the measured requests of one user, or of the steps of a sweep."""

from loadgen.measure.energy import cost_per_million, figures, used
from loadgen.measure.load import Window
from loadgen.measure.records import Records
from loadgen.results.manifest import Manifest
from loadgen.results.summary_schema import EnergySummary, Served


def whole(manifest: Manifest, ok: Records) -> EnergySummary | None:
    """Return what complete answers took, from when the first was asked for to the end of the last; None if unknown."""
    sent, ends = (ok.where_known(name).ints(name) for name in ("sent_ns", "end_ns"))
    if not len(sent) or not len(ends):
        return None
    tokens = ok.total("output_tokens") if ok.known("output_tokens").all() else None
    return _of_window(manifest, Window(int(sent.min()), int(ends.max())), tokens, len(ok))


def of_step(manifest: Manifest, window: Window, served: Served) -> EnergySummary | None:
    """Return what a step took in its window; None where it has no throughput, or nothing is known."""
    rate = served.requests_per_minute
    if rate is None or not rate.value or served.window_seconds is None:
        return None
    seconds, per_second = served.window_seconds, served.output_tokens_per_second
    tokens = None if per_second is None else per_second * seconds
    return _of_window(manifest, window, tokens, rate.value / 60 * seconds)


def _of_window(
    manifest: Manifest, window: Window, output_tokens: float | None, requests: float
) -> EnergySummary | None:
    gpus = len(manifest.launched.gpus) if manifest.launched else 0
    price = manifest.scenario.get("price_per_gpu_hour")
    energy = used(manifest.energy, window.start, window.end)
    cost = cost_per_million(window.seconds, output_tokens, gpus, price)
    if energy is None and cost is None:
        return None
    found = {} if energy is None else figures(energy, output_tokens, requests)
    return EnergySummary(gpus=gpus, **found, cost_per_million_output_tokens=cost)
