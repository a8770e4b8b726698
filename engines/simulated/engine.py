"""The truth server as an engine: a model of one, whose figures follow from its profile.

``like`` names the engine whose profiles it takes, of which each model has its own; ``profile`` names one for all;
``time_factor`` lets it run so many times faster.
"""

import json
from collections.abc import Sequence

from loadgen.engines import vllm
from loadgen.engines.engine import Command, Engine, Environment, Launch, Options, Start, ignore_eos
from loadgen.engines.simulated.batching import PROFILES
from loadgen.models.model import Model
from loadgen.protocol.chat import ChatApi


def _profile(model: Model, options: Options) -> str:
    return str(options.get("profile") or f"{options.get('like', 'vllm-0.1.3')}/{model.name}")


def _unsupported_reason(model: Model, options: Options) -> str | None:
    profile = _profile(model, options)
    return None if profile in PROFILES else f"there is no profile {profile!r}"


def _serve(start: Start) -> Sequence[Command]:
    profile = _profile(start.model, start.options)
    command = ["{bin}/python", "-m", "loadgen.engines.simulated", "--port", str(start.port), "--until-killed"]
    command += ["--model", start.model.name, "--profile", profile]
    return [[*command, "--time-factor", json.dumps(start.options.get("time_factor", 1.0))]]


ENGINE = Engine(
    name="simulated",
    title="simulated engine",
    apis=(ChatApi(),),
    launches=(
        Launch(runs_in=Environment(), commands=_serve, weight_format="none", uses_gpu=False, split=None, startup_s=1),
    ),
    metrics=vllm.METRICS,
    unsupported_reason=_unsupported_reason,
    options=("like", "profile", "time_factor"),
    fixed_length_fields=ignore_eos,
)
