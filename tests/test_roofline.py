"""The bound that memory bandwidth sets: numbers worked out by hand, and names that must not be mistaken."""

import pytest

from loadgen.measure.roofline import MEMORY, bandwidth, bound, bound_text
from loadgen.models.shape import Shape

A100, H100, H200 = "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H200"


def llama(layers: int, hidden: int, heads: int, feed_forward: int, *, kv_heads: int = 0, words: int = 32000) -> Shape:
    return Shape(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads,
        intermediate_size=feed_forward,
        vocab_size=words,
        context=2048,
    )


MPT = Shape(
    architecture="mpt",
    num_hidden_layers=32,
    hidden_size=4096,
    num_attention_heads=32,
    num_key_value_heads=32,
    intermediate_size=16384,
    vocab_size=50432,
    context=2048,
    tied=True,
)
FALCON = Shape(
    architecture="falcon",
    num_hidden_layers=32,
    hidden_size=4544,
    num_attention_heads=71,
    num_key_value_heads=1,
    intermediate_size=18176,
    vocab_size=65024,
    context=2048,
    tied=True,
)
# Parameters; then tokens/s of 1 and 2 A100, 1 and 2 H100, 1 and 2 H200, two bytes a weight, tensor parallel.
MODELS = {
    "mpt-7b-chat": (MPT, 6_649_286_656, (153.3, 306.6, 251.9, 503.8, 360.9, 721.9)),
    "falcon-7b-instruct": (FALCON, 6_921_720_704, (147.3, 294.6, 242.0, 484.0, 346.7, 693.5)),
    "vicuna-7b": (llama(32, 4096, 32, 11008), 6_738_415_616, (151.3, 302.6, 248.6, 497.1, 356.2, 712.3)),
    "vicuna-13b": (llama(40, 5120, 40, 13824), 13_015_864_320, (78.3, 156.7, 128.7, 257.4, 184.4, 368.8)),
    "oasst-30b": (llama(60, 6656, 52, 17920, words=32016), 32_529_156_608, (31.3, 62.7, 51.5, 103.0, 73.8, 147.6)),
    "llama2-70b": (llama(80, 8192, 64, 28672, kv_heads=8), 68_976_648_192, (14.8, 29.6, 24.3, 48.6, 34.8, 69.6)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_shape_has_as_many_parameters_as_its_model(name: str) -> None:
    shape, parameters, _ = MODELS[name]
    assert shape.parameters == parameters


@pytest.mark.parametrize("name", MODELS)
def test_bounds_are_those_worked_out_by_hand(name: str) -> None:
    shape, _, expected = MODELS[name]
    weights = shape.weight_bytes("float16")
    bounds = [bound(weights, gpu, count, "tensor") for gpu in (A100, H100, H200) for count in (1, 2)]
    # Within half of the last digit, and what the quotient of the doubles loses.
    assert bounds == [pytest.approx(tokens, abs=0.0501, rel=0) for tokens in expected]


def test_gpus_that_work_in_turn_are_no_faster_than_one() -> None:
    weights = MODELS["llama2-70b"][0].weight_bytes("float16")
    assert bound(weights, A100, 4, "layers") == bound(weights, A100, 1, "tensor") == bound(weights, A100, 2, None)
    assert bound(weights, A100, 4, "tensor") == pytest.approx(4 * 14.78, abs=0.02)


@pytest.mark.parametrize(
    ("name", "tb_per_s"),
    [
        ("NVIDIA A100-SXM4-80GB", 2.039),
        ("NVIDIA A100-SXM4-40GB", 1.555),
        ("NVIDIA A100 80GB PCIe", 1.935),
        ("NVIDIA A100-PCIE-40GB", 1.555),
        ("NVIDIA H100 80GB HBM3", 3.35),
        ("NVIDIA H100 PCIe", 2.0),
        ("NVIDIA H100 NVL", 3.9),
        ("NVIDIA L40", 0.864),
        ("NVIDIA L4", 0.3),
        ("NVIDIA A10", 0.6),
        ("Tesla T4", 0.32),
        ("NVIDIA GeForce RTX 4090", 1.008),
        ("AMD Instinct MI300X", 5.3),
    ],
)
def test_a_name_is_told_from_its_relatives(name: str, tb_per_s: float) -> None:
    assert bandwidth(name) == pytest.approx(tb_per_s * 1e12)


@pytest.mark.parametrize("name", ["A100-SXM4-40GB", "GeForce RTX 3090", " NVIDIA GeForce RTX 3090 "])
def test_a_name_may_come_without_its_vendor_as_older_drivers_tell_it(name: str) -> None:
    assert bandwidth(name) is not None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "NVIDIA",
        "NVIDIA A100",  # no saying which
        "NVIDIA H100",
        "NVIDIA A100-SXM-64GB",
        "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        "GRID A100D-40C",
        "NVIDIA H100 80GB HBM2e",
        "NVIDIA H20-3e",
        "NVIDIA GB200",
        "NVIDIA L4S",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA RTX 6000",
        "Quadro RTX 6000",
        "Tesla V100-DGXS-32GB",
        "AMD Instinct MI300A",
        "Fake H200",
    ],
)
def test_a_gpu_that_is_not_in_the_table_is_not_guessed(name: str) -> None:
    assert bandwidth(name) is None
    assert bound(10**9, name, 2, "tensor") is None


def test_each_bandwidth_names_its_source() -> None:
    assert all(memory.source and memory.tb_per_s > 0 for memory in MEMORY.values())


def test_the_text_says_what_the_bound_is_of() -> None:
    assert bound_text(A100, 2, "tensor") == "2x A100-SXM4-80GB, tensor parallel"
    assert bound_text(A100, 2, "layers") == "2x A100-SXM4-80GB, layers in turn"
    assert bound_text(A100, 1, "tensor") == bound_text(A100, 1, "layers") == "1x A100-SXM4-80GB"
    assert bound_text("Tesla T4", 4, None) == "1x Tesla T4"
