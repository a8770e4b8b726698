"""The models of the specification's tables, and the one that a row of them was later renamed to.

Shapes are those of the Hub's ``config.json``; templates and stop strings are FastChat 0.2.23's for these models.
"""

from collections.abc import Mapping

from loadgen.models.model import Model
from loadgen.models.shape import Shape

_LLAMA_7B = Shape(
    num_hidden_layers=32,
    hidden_size=4096,
    num_attention_heads=32,
    num_key_value_heads=32,
    intermediate_size=11008,
    vocab_size=32000,
    context=2048,
)
_LLAMA_13B = Shape(
    num_hidden_layers=40,
    hidden_size=5120,
    num_attention_heads=40,
    num_key_value_heads=40,
    intermediate_size=13824,
    vocab_size=32000,
    context=2048,
)
_LLAMA_2_13B = Shape(
    num_hidden_layers=40,
    hidden_size=5120,
    num_attention_heads=40,
    num_key_value_heads=40,
    intermediate_size=13824,
    vocab_size=32000,
    context=4096,
)
_LLAMA_LICENCE = "LLaMA, non-commercial"
_LLAMA_2_LICENCE = "Llama 2 Community"

_ROWS = (
    Model(
        name="mpt-7b-chat",
        source="mosaicml/mpt-7b-chat",
        shape=Shape(
            architecture="mpt",
            num_hidden_layers=32,
            hidden_size=4096,
            num_attention_heads=32,
            num_key_value_heads=32,
            intermediate_size=16384,
            vocab_size=50432,
            context=2048,
            tied=True,
        ),
        dtype="bfloat16",
        template="mpt-7b-chat",
        stop=("<|im_end|>",),  # no end of sequence to its tokenizer: FastChat stops at the token, 50278
        licence="CC-BY-NC-SA-4.0",
        substitute="a folder with a copy of before 2026, or random weights of its shape",
        remote_code=True,
        note="the Hub answers 404 for it since January 2026; vLLM has no MPT after 0.28.0",
    ),
    Model(
        name="falcon-7b-instruct",
        source="tiiuae/falcon-7b-instruct",
        shape=Shape(
            architecture="falcon",
            num_hidden_layers=32,
            hidden_size=4544,
            num_attention_heads=71,
            num_key_value_heads=1,
            intermediate_size=18176,
            vocab_size=65024,
            context=2048,
            tied=True,
        ),
        dtype="bfloat16",
        template="falcon",
        stop=("\nUser",),
        licence="Apache-2.0",
        remote_code=True,
    ),
    Model(
        name="vicuna-13b-v1.3",
        source="lmsys/vicuna-13b-v1.3",
        shape=_LLAMA_13B,
        template="vicuna_v1.1",
        licence=_LLAMA_LICENCE,
        note="the specification's author renamed this row to vicuna-7b-v1.3 one day later, with the same figure",
    ),
    Model(
        name="vicuna-7b-v1.3",
        source="lmsys/vicuna-7b-v1.3",
        shape=_LLAMA_7B,
        template="vicuna_v1.1",
        licence=_LLAMA_LICENCE,
        note="not in the specification: its author renamed the row vicuna-13b-v1.3 to this one day later",
    ),
    Model(
        name="vicuna-13b-v1.5",
        source="lmsys/vicuna-13b-v1.5",
        shape=_LLAMA_2_13B,
        template="vicuna_v1.1",
        licence=_LLAMA_2_LICENCE,
    ),
    Model(
        name="oasst-30b",
        source="TheBloke/OpenAssistant-SFT-7-Llama-30B-HF",
        shape=Shape(
            num_hidden_layers=60,
            hidden_size=6656,
            num_attention_heads=52,
            num_key_value_heads=52,
            intermediate_size=17920,
            vocab_size=32016,
            context=2048,
        ),
        template="oasst_llama",
        licence=_LLAMA_LICENCE,
        note="the specification does not say which OpenAssistant model of LLaMA 30B it is: this is sft-7, the one that "
        "FastChat knows, as a merged copy; OpenAssistant/oasst-sft-7-llama-30b-xor and oasst-sft-6-llama-30b-xor are "
        "differences to LLaMA 30B and of the same shape",
    ),
    Model(
        name="llama2-70b-chat",
        source="meta-llama/Llama-2-70b-chat-hf",
        shape=Shape(
            num_hidden_layers=80,
            hidden_size=8192,
            num_attention_heads=64,
            num_key_value_heads=8,
            intermediate_size=28672,
            vocab_size=32000,
            context=4096,
        ),
        template="llama-2",
        gated=True,
        licence=_LLAMA_2_LICENCE,
    ),
)

_SHAPES = (
    Model(
        name="tiny-llama",
        shape=Shape(
            num_hidden_layers=6,
            hidden_size=256,
            num_attention_heads=8,
            num_key_value_heads=2,
            intermediate_size=704,
            vocab_size=2048,
            context=4096,
        ),
        dtype="float32",
        note="a shape without trained weights, some 2 ms a token on one core",
    ),
    Model(
        name="small-llama",
        shape=Shape(
            num_hidden_layers=12,
            hidden_size=512,
            num_attention_heads=8,
            num_key_value_heads=8,
            intermediate_size=1408,
            vocab_size=4096,
            context=4096,
        ),
        dtype="float32",
        note="a shape without trained weights, some 20 ms a token on one core",
    ),
)

MODELS: Mapping[str, Model] = {model.name: model for model in (*_ROWS, *_SHAPES)}
"""By name: the rows of the specification's table in their order, then shapes for machines without a GPU."""


def find_model(name: str) -> Model | None:
    """Return the model of this name or Hub id; None if it is none of ours."""
    return MODELS.get(name) or next((model for model in _ROWS if model.source == name), None)
