"""What is known of a model."""

from dataclasses import dataclass

from loadgen.models.shape import Dtype, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as the tables name it."""

    name: str
    source: str | None = None
    """Hub id, or path of a folder or file; None: only its shape is known, for random weights."""
    gguf: str | None = None
    """Path of the same model as a GGUF file, for engines that take those."""
    shape: Shape | None = None
    """None where it was not told: then there is no bound, no memory estimate and no random weights."""
    dtype: Dtype = "float16"
    template: str | None = None
    """File in ``loadgen/models/chat/``, without its suffix: how a chat becomes a prompt. None: the model's own."""
    stop: tuple[str, ...] = ()
    """What ends an answer beside the end-of-sequence token, by the template."""
    substitute: str | None = None
    """Where to get it, when ``source`` is gone; said in the plan."""
    gated: bool = False
    """Whether the Hub wants a token of somebody who has accepted its terms."""
    licence: str | None = None
    remote_code: bool = False
    """Whether the Hub's repository brings code of its own that some engines must be allowed to run."""
    note: str | None = None
    """What a reader of the table has to know."""
