"""What an engine loads: files that are here, files from the Hub, or random weights made on the spot."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loadgen.engines.engine import Launch
from loadgen.errors import EngineError
from loadgen.launch.folders import cache_folder
from loadgen.launch.weights.random_model import Form, model_path, random_model, shape_of
from loadgen.live.status import Status
from loadgen.models.model import Model
from loadgen.models.template import template_text
from loadgen.results.files import write

_TEMPLATE, _CONFIG = "chat_template.jinja", "tokenizer_config.json"


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files."""

    path: str
    """What the engine is told to load."""
    mounts: tuple[Path, ...] = ()
    """Folders that a container has to see."""
    revision: str | None = None
    """Commit of the Hub's repository."""


def check(model: Model, launch: Launch, *, is_random: bool) -> None:
    """Raise EngineError if an engine cannot get the files of a model, as far as that is known without a download."""
    if launch.weight_format == "none":
        return
    if is_random:
        shape_of(model)
        return
    if launch.weight_format == "gguf":
        _check_gguf(model)
        return
    if model.source is None:
        raise EngineError(f"{model.name}: there is no source of its weights; name one, or use random weights.")
    if not _is_path(model.source):
        if model.gated and not _token():
            raise EngineError(f"{model.name}: {model.source} is gated: accept its terms there and set HF_TOKEN.")
        return
    if not (Path(model.source) / "config.json").is_file():
        raise EngineError(f"{model.name}: {model.source} is not a folder with a config.json, as on the Hub.")


def expected(model: Model, launch: Launch, *, is_random: bool) -> Source:
    """Return what the engine will be told to load, without getting it."""
    if launch.weight_format == "none":
        return Source("")
    if is_random:
        return Source(str(model_path(model, _form(launch))), (cache_folder(),))
    if launch.weight_format == "gguf":
        path = Path(model.gguf or f"{model.name}.gguf").absolute()  # there may be none yet
        return Source(str(path), (path.parent,))
    source = str(model.source)
    mounts = (Path(source).absolute(),) if _is_path(source) else (_hub_cache(),)
    if model.template is None:
        return Source(source, mounts)
    return Source(str(_with_template(model, source)), (*mounts, cache_folder()))


def get(model: Model, launch: Launch, *, is_random: bool, status: Status) -> Source:
    """Return the files of a model, made or downloaded if they are missing; raises EngineError if that fails."""
    if launch.weight_format == "none":
        return Source("")
    if is_random:
        form = _form(launch)
        if not model_path(model, form).exists():
            status.now(f"making {model.name} of random weights")
        path = random_model(
            model, form, lambda share: status.now(f"making {model.name} of random weights: {share:.0%}")
        )
        return Source(str(path), (cache_folder(),))
    if launch.weight_format == "gguf":
        path = Path(str(model.gguf)).absolute()
        return Source(str(path), (path.parent,))
    assert model.source is not None
    if _is_path(model.source):
        folder, revision = Path(model.source).absolute(), None
    else:
        folder = _from_hub(model, status)
        revision = folder.name
    mounts: Sequence[Path] = (folder,) if revision is None else (_hub_cache(),)
    if model.template is None:
        return Source(str(folder), tuple(mounts), revision)
    return Source(str(_overlaid(model, folder)), (*mounts, cache_folder()), revision)


def _form(launch: Launch) -> Form:
    if launch.weight_format == "gguf":
        return "gguf"
    return "config" if launch.supports_dummy_weights else "safetensors"


def _check_gguf(model: Model) -> None:
    if model.gguf is None:
        raise EngineError(
            f"{model.name}: this engine takes GGUF files. Convert the weights with llama.cpp's convert_hf_to_gguf.py "
            "and name the file as gguf = ... of the model in matrix.toml (or --model FILE.gguf), or use random weights."
        )
    if not Path(model.gguf).is_file():
        raise EngineError(f"{model.name}: {model.gguf} does not exist.")


def _is_path(source: str) -> bool:
    """Whether a source is a path: the Hub's ids are OWNER/NAME and neither begin with a dot nor a slash."""
    return source.startswith((".", "/", "~")) or Path(source).exists()


def _token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _from_hub(model: Model, status: Status) -> Path:
    """Fetch a repository, or find it in the cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    assert model.source is not None
    status.now(f"fetching {model.source} from the Hub")
    unwanted = ["*.h5", "*.msgpack", "*.gguf", "*.onnx", "*.pth", "original/*"]
    try:
        return Path(snapshot_download(model.source, ignore_patterns=unwanted))
    except GatedRepoError:
        raise EngineError(
            f"{model.name}: {model.source} is gated, and the account of HF_TOKEN has no access; accept its terms there."
        ) from None
    except RepositoryNotFoundError:
        instead = f" {model.substitute}" if model.substitute else ""
        raise EngineError(f"{model.name}: the Hub has no {model.source}.{instead}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        said = str(error).strip().splitlines()[0]
        raise EngineError(
            f"{model.name}: {model.source} cannot be fetched from the Hub ({said}); name a folder that has it as "
            "source of the model in matrix.toml, or use random weights."
        ) from None


def _with_template(model: Model, source: str | None) -> Path:
    identity = f"{source} {template_text(str(model.template))}"
    return cache_folder() / "templated" / f"{model.name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"


def _overlaid(model: Model, folder: Path) -> Path:
    """Return a folder with links to a model's files and our chat template: the repositories of 2023 have none.

    It stands in both places where engines look for it.
    """
    overlay = _with_template(model, model.source)
    overlay.mkdir(parents=True, exist_ok=True)
    text = template_text(str(model.template))
    for file in folder.iterdir():
        link = overlay / file.name
        if file.name in {_TEMPLATE, _CONFIG} or (link.is_symlink() and link.readlink() == file.absolute()):
            continue  # an engine that runs may have it open
        link.unlink(missing_ok=True)
        with suppress(FileExistsError):  # somebody else does the same
            link.symlink_to(file.absolute())
    write(overlay / _TEMPLATE, text.encode())
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
    except (OSError, ValueError):
        return overlay
    if isinstance(config, dict):
        write(overlay / _CONFIG, json.dumps(config | {"chat_template": text}).encode())
    return overlay
