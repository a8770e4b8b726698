"""One short module per engine: what is particular to it. An engine is added by writing one and naming it here."""

from collections.abc import Mapping

from engines import endpoint, fastchat, llamacpp, sglang, tgi, tgi_1_0_1, transformers_serve, vllm, vllm_0_1_3
from engines.simulated import dialect as simulated
from loadgen.wire.dialect import Dialect

DIALECTS: Mapping[str, Dialect] = {
    "endpoint": endpoint.DIALECT,
    "fastchat": fastchat.DIALECT,
    "llamacpp": llamacpp.DIALECT,
    "sglang": sglang.DIALECT,
    "simulated": simulated.DIALECT,
    "tgi": tgi.DIALECT,
    "tgi-1.0.1": tgi_1_0_1.DIALECT,
    "transformers": transformers_serve.DIALECT,
    "vllm": vllm.DIALECT,
    "vllm-0.1.3": vllm_0_1_3.DIALECT,
}
"""Engines by the names that ``--engine`` takes."""
