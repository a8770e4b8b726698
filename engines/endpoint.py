"""Any OpenAI-compatible endpoint that runs somewhere already: nothing is assumed beyond the protocol."""

from loadgen.engines import llamacpp, lmdeploy, sglang, tensorrt_llm, tgi, vllm
from loadgen.engines.engine import Engine, Metrics, Names, ignore_eos
from loadgen.protocol.chat import ChatApi

_KNOWN = [engine.METRICS for engine in (vllm, sglang, tgi, llamacpp, lmdeploy, tensorrt_llm)]


def _all(ours: str) -> Names:
    """Return what all engines that we know call it: which one answers is not known."""
    return tuple(name for metrics in _KNOWN for name in getattr(metrics, ours))


ENGINE = Engine(
    name="endpoint",
    title="endpoint",
    apis=(ChatApi(),),
    health=None,
    metrics=Metrics(
        prompt_tokens=_all("prompt_tokens"),
        output_tokens=_all("output_tokens"),
        requests=_all("requests"),
        running=_all("running"),
        waiting=_all("waiting"),
        prefix_hits=_all("prefix_hits"),
        prefix_queries=_all("prefix_queries"),
        kv_cache=_all("kv_cache"),
    ),
    fixed_length_fields=ignore_eos,
    notes=("The key is that of OPENAI_API_KEY or OPENAI_API_KEY_FILE; matrix.toml may name another variable.",),
)
