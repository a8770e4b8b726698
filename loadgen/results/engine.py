"""What reports say of an engine that was started here: where and with what, and what memory bandwidth allows it."""

from loadgen.measure.facts import kind
from loadgen.measure.roofline import bound, bound_text
from loadgen.results.launched import Launched
from loadgen.results.summary_schema import Bound, EngineFacts, GpuSummary


def engine_facts(launched: Launched | None) -> EngineFacts | None:
    """Return what a summary keeps of it; None where it was started by somebody else."""
    if launched is None:
        return None
    return EngineFacts(
        title=launched.title,
        source=launched.source,
        revision=launched.revision,
        dtype=launched.dtype,
        weights=launched.weights,
        packages=dict(launched.packages),
        image=launched.image,
        image_digest=launched.image_digest,
        commands=[list(command) for command in launched.commands],
        variables=launched.variables,
        gpus=[GpuSummary(name=gpu.name, driver=gpu.driver, power_cap_w=gpu.power_cap_w) for gpu in launched.gpus],
        split=launched.split,
        time_factor=launched.options.get("time_factor"),
        startup_s=launched.startup_s,
        notes=list(launched.notes),
        bound=_bound(launched),
    )


def _bound(launched: Launched) -> Bound | None:
    """Return the output tokens/s of one user that the memory bandwidth allows; None where it is not known."""
    name = kind(launched.gpus)  # the bandwidth is that of a whole card
    if name is None or launched.weight_bytes is None:
        return None
    of = (name, len(launched.gpus), launched.split)
    value = bound(launched.weight_bytes, *of)
    return None if value is None else Bound(tokens_per_second=value, of=bound_text(*of))
