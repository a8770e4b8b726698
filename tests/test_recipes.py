"""docs/recipes/: the commands are run, against servers of the same protocol, and print what stands there."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment
from providers import PROVIDERS, WORDS
from serving import HANG_UP, MODELS, SSE_HEAD, Request, Step, answer, chunk, response, serving, token

Script = Callable[[int, Request], Sequence[Step]]

RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.md"))
ENVIRONMENT = {"GATEWAY_KEY": "gateway-secret-1"}


def any_of(_number: int, _request: Request) -> Sequence[Step]:
    return answer(len(WORDS), pause=0.01)


def cutting(number: int, _request: Request) -> Sequence[Step]:
    """It ends requests after six seconds, from the measured ones on."""
    return answer(1) if number < 6 else [(0.0, SSE_HEAD), *[(0.5, chunk(token("a")))] * 12, (0.0, HANG_UP)]


def loading(until: int) -> Script:
    def script(number: int, request: Request) -> Sequence[Step]:
        if number < until:
            return [(0.0, response(b'{"error":{"message":"Loading model"}}', status="503 Service Unavailable"))]
        return any_of(number, request)

    return script


SCRIPTS: dict[str, list[Script]] = {
    "vllm-behind-a-gateway": [any_of],
    "openai": [PROVIDERS["openai"].script],
    "azure": [PROVIDERS["azure, dated"].script],
    "mistral": [PROVIDERS["mistral"].script],
    "openrouter": [PROVIDERS["openrouter"].script],
    "a-gateway-that-cuts-streams": [cutting],
    "a-server-that-is-loading": [loading(1_000), loading(2)],
}
KEYS = {"openai": "sk-openai", "azure": "azure-key"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_commands_of_a_recipe_print_what_stands_there(recipe: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```$", recipe.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == len(SCRIPTS[recipe.stem])
    for (command, shown), script in zip(blocks, SCRIPTS[recipe.stem], strict=True):
        words = shlex.split(command)
        at = words.index("--host") + 1
        origin = re.match(r"https?://[^/]+", words[at])
        assert origin is not None
        with serving(script, models=response(MODELS)) as server:
            words[at] = words[at].replace(origin[0], server.url)
            key = {"OPENAI_API_KEY": KEYS[recipe.stem]} if recipe.stem in KEYS else {}
            done = subprocess.run(
                [sys.executable, "-m", "loadgen.cli", *words[1:]],
                cwd=tmp_path,
                env=clean_environment(**ENVIRONMENT, **key) | {"COLUMNS": "1000"},
                capture_output=True,
                text=True,
                check=False,
            )
        said = [alike(line.replace(server.url, origin[0])) for line in (done.stdout + done.stderr).splitlines()]
        for line in shown.splitlines():
            assert any(alike(line) in one for one in said), f"{line}\n{done.stdout}\n{done.stderr}"


def alike(line: str) -> str:
    """A line without its figures, nor a verdict that a busy machine may change."""
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r"^(VALID|WARN)", "VALID", line.strip()))
