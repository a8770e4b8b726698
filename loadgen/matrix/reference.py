"""The specification's reference results, and what its author published later: of one or two A100 80GB.

Source: eugenesiow/LLM-Insights, ``inference/README.md``; the specification is commit 279973c of 2023-08-21, the rest
fc676fd of 2023-08-22 and 652a50b of 2023-08-24. No spread was given with any of the figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TRANSFORMERS = "transformers-4.31.0"
VLLM = "vllm-0.1.3"
TGI = "tgi-1.0.1"


@dataclass(frozen=True, slots=True)
class Reference:
    """One published figure; its unit is that of the table it stands in."""

    value: float
    since: Literal["specification", "later"] = "specification"
    """Whether the specification has it, or its author published it afterwards."""
    disputed: str | None = None
    """Why nothing should be measured by it; None where nothing speaks against it."""


_RENAMED = (
    "the author renamed the row from vicuna-13b-v1.3 to vicuna-7b-v1.3 one day later and kept this figure: it is "
    "53 % of what an A100's memory bandwidth allows a 13B model, and 27 % for 7B"
)
_MIXED = "the row was labelled 13B one day before, and seems to mix figures of 13B and 7B"

SPEED: Mapping[tuple[str, str], Reference] = {
    (VLLM, "mpt-7b-chat"): Reference(84.37),
    (TGI, "mpt-7b-chat"): Reference(67.16),
    (TRANSFORMERS, "falcon-7b-instruct"): Reference(25.10, "later"),
    (VLLM, "falcon-7b-instruct"): Reference(82.68),  # the row's best until TGI's figure was published
    (TGI, "falcon-7b-instruct"): Reference(86.71, "later"),
    (VLLM, "vicuna-13b-v1.3"): Reference(41.14, disputed=_RENAMED),
    (TRANSFORMERS, "vicuna-7b-v1.3"): Reference(28.71, "later", _MIXED),
    (VLLM, "vicuna-7b-v1.3"): Reference(41.14, "later", _RENAMED),
    (TGI, "vicuna-7b-v1.3"): Reference(84.26, "later", _MIXED),
    (TRANSFORMERS, "vicuna-13b-v1.5"): Reference(30.40),
    (VLLM, "vicuna-13b-v1.5"): Reference(48.42),
    (TGI, "vicuna-13b-v1.5"): Reference(49.48),
    (TRANSFORMERS, "oasst-30b"): Reference(14.89),
    (VLLM, "oasst-30b"): Reference(21.80),
    (TGI, "oasst-30b"): Reference(22.05),
    (TRANSFORMERS, "llama2-70b-chat"): Reference(9.53),
    (VLLM, "llama2-70b-chat"): Reference(17.00),
    (TGI, "llama2-70b-chat"): Reference(18.61),
}
"""Output tokens/s of one user over the whole round trip, by engine and model."""

THROUGHPUT: Mapping[tuple[str, str], Reference] = {
    (TRANSFORMERS, "llama2-70b-chat"): Reference(0.6, "later"),
    (VLLM, "llama2-70b-chat"): Reference(14.4, "later"),
    (TGI, "llama2-70b-chat"): Reference(6.0, "later"),
}
"""Requests/min, by engine and model. Neither the number of users nor the length of the answers was told."""
