"""Launch commands, by engine, model and number of GPUs: word for word as they are kept, with all flags that matter."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from loadgen.engines.catalogue import ENGINES
from loadgen.engines.engine import Engine, Launch
from loadgen.launch.order import Order, commands, context_for, shown, variables
from loadgen.launch.placement import kind_of, place
from loadgen.launch.sources import Source
from loadgen.measure.facts import GpuFacts
from loadgen.models.model import Model
from loadgen.models.table import MODELS

FILE = Path(__file__).parent / "golden" / "commands.txt"
RECORD = "LOADGEN_RECORD"
"""Environment variable: where it is set, the file is written anew."""

PAIR = [GpuFacts(index=index, name="NVIDIA A100-SXM4-80GB", memory_bytes=80 << 30) for index in (0, 1)]
SPECIFIED = [model for model in MODELS.values() if model.source is not None]
PORTS = (8000, 8001, 8002)

Case = tuple[Engine, Launch, Model, bool]


def cases() -> Iterator[Case]:
    """Every way of every engine that a GPU can be used by, with every model of the specification."""
    for engine in ENGINES.values():
        for launch in engine.launches:
            if launch.uses_gpu and launch.weight_format != "none":
                yield from ((engine, launch, model, False) for model in SPECIFIED)
                if launch.supports_dummy_weights:
                    yield engine, launch, MODELS["vicuna-13b-v1.5"], True


def title(case: Case) -> str:
    engine, launch, model, is_random = case
    return f"{engine.name}, {kind_of(launch)}, {model.name}" + (", random weights" if is_random else "")


def command(case: Case) -> list[list[str]]:
    """The command lines as they would be started on a pair of A100 80GB."""
    return commands(order(case), source(case), PORTS, "golden")


def order(case: Case) -> Order:
    engine, launch, model, is_random = case
    context = context_for(model, None)
    placement = place(launch, model, PAIR, tokens=context * engine.reserved_sequences({}), chosen=False)
    return Order(engine=engine, model=model, is_random=is_random, placement=placement, context=context)


def source(case: Case) -> Source:
    _, launch, model, _ = case
    path = f"/models/{model.name}" + (".gguf" if launch.weight_format == "gguf" else "")
    return Source(path, (Path("/models"),))


def golden(case: Case) -> str:
    engine, _, model, _ = case
    if (why := engine.unsupported_reason(model, {})) is not None:
        return f"# {title(case)}\nrefused: {why}\n"
    text = shown(command(case), variables(order(case)))
    text = _ENVIRONMENT.sub(r"/environments/\1/", text)
    return f"# {title(case)}\n{text}\n"


_ENVIRONMENT = re.compile(r"/environments/([^/]+)-[0-9a-f]{10}/")
"""Whose name depends on Python's version, too."""


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments lie at the same place on every machine."""
    monkeypatch.setenv("XDG_DATA_HOME", "/data")


def test_every_launch_command_is_as_it_is_kept() -> None:
    found = "\n".join(map(golden, cases()))
    if RECORD in os.environ:
        FILE.write_text(found)
    assert found.splitlines() == FILE.read_text().splitlines()


FLAGS: Mapping[tuple[str, str], Sequence[str]] = {
    ("transformers-4.31.0", "environment"): (
        "-m fastchat.serve.controller",
        "-m fastchat.serve.model_worker",
        "-m fastchat.serve.openai_api_server",
        "--worker-address http://127.0.0.1:8002 --controller-address http://127.0.0.1:8001",
        "--num-gpus 1",
        "--conv-template vicuna_v1.1",
    ),
    ("vllm-0.1.3", "environment"): (
        "-m vllm.entrypoints.openai.api_server",
        "--model /models/vicuna-13b-v1.5",
        "--served-model-name vicuna-13b-v1.5",
        "--disable-log-requests",
    ),
    ("tgi-1.0.1", "container"): (
        "--shm-size 1g",
        """--gpus '"device=0"'""",
        "ghcr.io/huggingface/text-generation-inference:1.0.1 --model-id",
        "--num-shard 1",
        "--dtype float16",
        "--max-input-length 1024 --max-total-tokens 2048",
    ),
    ("vllm", "container"): (
        "vllm/vllm-openai:v0.33.0 /models/vicuna-13b-v1.5",
        "--dtype float16",
        "--max-model-len 2048",
        "--seed 0",
        "--no-enable-prefix-caching",
        "--generation-config vllm",
    ),
    ("tgi", "container"): (
        "ghcr.io/huggingface/text-generation-inference:3.3.7 --model-id",
        "--num-shard 1",
        "--env PREFIX_CACHING=0",
    ),
    ("sglang", "container"): ("--disable-radix-cache", "--enable-metrics", "--context-length 2048"),
    ("lmdeploy", "container"): (
        "lmdeploy serve api_server /models",
        "--chat-template hf",
        "--tp 1",
        "--session-len 2048",
        "turbomind",
    ),
    ("tensorrt-llm", "container"): (
        "trtllm-serve /models/vicuna-13b-v1.5",
        "--tp_size 1",
        "--max_seq_len 2048",
        '"enable_block_reuse": false',
        '"return_perf_metrics": true',
    ),
    ("llamacpp", "container"): ("-ngl all", "-sm layer", "--metrics"),
    ("ollama", "container"): ("ollama serve", "ollama create vicuna-13b-v1.5", "PARAMETER num_ctx 2048", "USER: {{ ."),
}
"""What the specification or a fair comparison needs, for a model on one GPU."""


@pytest.mark.parametrize(("name", "kind"), FLAGS)
def test_a_13b_on_one_gpu_is_started_with_what_matters(name: str, kind: str) -> None:
    (case,) = [c for c in cases() if title(c) == f"{name}, {kind}, vicuna-13b-v1.5"]
    text = golden(case).replace("\\n", "\n")
    assert [words for words in FLAGS[name, kind] if words not in text] == []


PARALLEL = {
    "transformers-4.31.0": "--num-gpus 2",
    "vllm-0.1.3": "--tensor-parallel-size 2",
    "tgi-1.0.1": "--num-shard 2",
    "vllm": "--tensor-parallel-size 2",
    "tgi": "--num-shard 2",
    "sglang": "--tp-size 2",
    "lmdeploy": "--tp 2",
    "tensorrt-llm": "--tp_size 2",
}


@pytest.mark.parametrize("name", PARALLEL)
def test_a_70b_is_spread_over_both_gpus(name: str) -> None:
    for case in cases():
        if case[0].name == name and case[2].name == "llama2-70b-chat":
            text = golden(case)
            assert PARALLEL[name] in text
            assert ('"device=0,1"' in text) == (kind_of(case[1]) == "container")
            assert "CUDA_VISIBLE_DEVICES=0,1 " in text


def test_names_by_which_fastchat_finds_the_template_are_served_by_the_old_vllm() -> None:
    served = [golden(case) for case in cases() if case[0].name == "vllm-0.1.3"]
    for name in ("mpt-7b-chat", "falcon-7b-instruct", "vicuna-13b-v1.3", "oasst-30b", "llama-2-70b-chat"):
        assert any(f"--served-model-name {name} " in text for text in served)


def test_random_weights_are_made_by_the_engine_where_it_can() -> None:
    dummy = {title(case).split(",")[0]: golden(case) for case in cases() if case[3]}
    words = {"vllm-0.1.3": "--use-dummy-weights", "tensorrt-llm": '"load_format": "DUMMY"'}
    assert {name: words.get(name, "--load-format dummy") in text for name, text in dummy.items()} == dict.fromkeys(
        ("vllm", "vllm-0.1.3", "sglang", "tensorrt-llm"), True
    )


def test_models_that_an_engine_does_not_know_are_refused_with_the_reason() -> None:
    refused = {title(case): golden(case) for case in cases() if "refused: " in golden(case)}
    assert "vLLM has no MPT after 0.28.0" in refused["vllm, container, mpt-7b-chat"]
    assert set(refused) == {
        f"{engine}, {kind}, {model}"
        for engine, models in {
            "vllm": ["mpt-7b-chat"],
            "sglang": ["mpt-7b-chat", "falcon-7b-instruct"],
            "lmdeploy": ["mpt-7b-chat", "falcon-7b-instruct"],
            "tensorrt-llm": ["mpt-7b-chat", "falcon-7b-instruct"],
        }.items()
        for kind in ("container", "environment")
        for model in models
    }
