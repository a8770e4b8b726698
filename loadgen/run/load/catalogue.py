"""All load models."""

from loadgen.run.load.closed_loop import ClosedLoop
from loadgen.run.load.model import LoadModel
from loadgen.run.load.open_loop import OpenLoop
from loadgen.run.load.sweep import Sweep

LOAD_MODELS: tuple[type[LoadModel], ...] = (ClosedLoop, Sweep, OpenLoop)
