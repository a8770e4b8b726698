"""What the bandwidth of a GPU's memory allows one user: each output token needs every weight to be read once."""

from typing import Literal, NamedTuple

Split = Literal["tensor", "layers"]
"""How a model is spread over GPUs: all of them work at each layer, or one after the other."""


class Memory(NamedTuple):
    """The memory of a GPU."""

    tb_per_s: float
    """Peak bandwidth, 10^12 bytes per second."""
    source: str
    """Who says so: data sheets, product briefs and white papers of the vendor."""


_A100_40 = Memory(1.555, "NVIDIA A100 data sheet")
_A100_80_PCIE = Memory(1.935, "NVIDIA A100 80GB data sheet")
_A100_80_SXM = Memory(2.039, "NVIDIA A100 80GB data sheet")
_A800 = "NVIDIA A800: memory of the A100, slower NVLink"
_H800 = "NVIDIA H800: memory of the H100, slower NVLink"
_L40 = Memory(0.864, "NVIDIA L40 and L40S data sheets")
_V100 = Memory(0.900, "NVIDIA V100 data sheet")
_MI300X = Memory(5.3, "AMD Instinct MI300X data sheet")

MEMORY = {
    "A100-PCIE-40GB": _A100_40,
    "A100-SXM4-40GB": _A100_40,
    "A100 80GB PCIe": _A100_80_PCIE,
    "A100-SXM4-80GB": _A100_80_SXM,
    "A800-SXM4-40GB": Memory(_A100_40.tb_per_s, _A800),
    "A800 40GB Active": Memory(1.555, "NVIDIA A800 40GB Active data sheet"),
    "A800 80GB PCIe": Memory(_A100_80_PCIE.tb_per_s, _A800),
    "A800-SXM4-80GB": Memory(_A100_80_SXM.tb_per_s, _A800),
    "H100 80GB HBM3": Memory(3.35, "NVIDIA H100 data sheet, SXM"),
    "H100 PCIe": Memory(2.0, "NVIDIA H100 PCIe product brief"),
    "H100 NVL": Memory(3.9, "NVIDIA H100 data sheet, NVL, one of the pair"),
    "H200": Memory(4.8, "NVIDIA H200 data sheet, SXM"),
    "H200 NVL": Memory(4.8, "NVIDIA H200 data sheet, NVL"),
    "H800": Memory(3.35, _H800),
    "H800 PCIe": Memory(2.0, _H800),
    "H20": Memory(4.0, "NVIDIA H20 data sheet, 96 GB"),
    "B200": Memory(8.0, "NVIDIA DGX B200 data sheet: 64 TB/s of eight"),
    # The number is that of the processor's own memory: the GPU's is 96 GB.
    "GH200 480GB": Memory(4.0, "NVIDIA GH200 data sheet, HBM3"),
    "GH200 144G HBM3e": Memory(4.9, "NVIDIA GH200 data sheet, HBM3e"),
    "L4": Memory(0.300, "NVIDIA L4 data sheet"),
    "L40": _L40,
    "L40S": _L40,
    "A10": Memory(0.600, "NVIDIA A10 data sheet"),
    "A10G": Memory(0.600, "NVIDIA A10G data sheet"),
    "A30": Memory(0.933, "NVIDIA A30 data sheet"),
    "A40": Memory(0.696, "NVIDIA A40 data sheet"),
    "RTX A6000": Memory(0.768, "NVIDIA RTX A6000 data sheet"),
    "RTX 6000 Ada Generation": Memory(0.960, "NVIDIA RTX 6000 Ada Generation data sheet"),
    "GeForce RTX 3090": Memory(0.936, "NVIDIA Ampere GA102 white paper"),
    "GeForce RTX 4090": Memory(1.008, "NVIDIA Ada white paper"),
    "GeForce RTX 5090": Memory(1.792, "NVIDIA RTX Blackwell white paper"),
    "Tesla V100-SXM2-16GB": _V100,
    "Tesla V100-SXM2-32GB": _V100,
    "Tesla T4": Memory(0.320, "NVIDIA T4 product brief"),
    "AMD Instinct MI300X": _MI300X,
    "AMD Instinct MI300X OAM": _MI300X,
}
"""By the name that NVML or ROCm has for the GPU, without the vendor's ``NVIDIA``, which older drivers leave out. One
that stands here for a part of the name only, as for a slice of an A100, is another GPU."""


def bandwidth(gpu_name: str) -> float | None:
    """Peak bandwidth of its memory, bytes/s; None where the name is not in the table."""
    memory = MEMORY.get(_short(gpu_name))
    return None if memory is None else memory.tb_per_s * 1e12


def bound(weight_bytes: int, gpu_name: str, count: int, split: Split | None) -> float | None:
    """Output tokens/s of one user that weights of this size allow on so many GPUs of one kind.

    ``tensor``: bandwidth of all of them / weights. ``layers``: a token passes through one GPU after the other, and
    each reads its own part, so that the bandwidth of one is what counts; as it is where only one can be used (None).
    What else is read, as the KV cache, is left out. None where the bandwidth is not known.
    """
    of_one = bandwidth(gpu_name)
    return None if of_one is None else of_one * (count if split == "tensor" else 1) / weight_bytes


def bound_text(gpu_name: str, count: int, split: Split | None) -> str:
    """Say what a bound is of, as in ``2x A100-SXM4-80GB, tensor parallel``."""
    if count == 1 or split is None:
        return f"1x {_short(gpu_name)}"
    return f"{count}x {_short(gpu_name)}, {'tensor parallel' if split == 'tensor' else 'layers in turn'}"


def _short(gpu_name: str) -> str:
    return gpu_name.strip().removeprefix("NVIDIA ")
