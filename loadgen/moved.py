"""Modules by their names up to version 0.1: whoever imports one gets an error that gives the new name."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

MODULES = {
    "loadgen.wire.answer": "loadgen.protocol.completion",
    "loadgen.wire.client": "loadgen.protocol.client",
    "loadgen.wire.decode": "loadgen.protocol.decode",
    "loadgen.wire.dialect": "loadgen.protocol.api",
    "loadgen.wire.job": "loadgen.request",
    "loadgen.wire.openai_chat": "loadgen.protocol.chat",
    "loadgen.wire.openai_sdk": "loadgen.protocol.openai_sdk",
    "loadgen.wire.reception": "loadgen.wire.response_reader",
    "loadgen.wire.recording": "loadgen.protocol.records",
    "loadgen.wire.tokenizer": "loadgen.protocol.tokenizer",
    "loadgen.wire.uniform": "loadgen.protocol.uniform",
}


class _Moved(MetaPathFinder):
    """Asked last, for modules that nothing else has found."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:  # noqa: ARG002
        """Raise ModuleNotFoundError with the new name of a module that has moved."""
        if name in MODULES:
            raise ModuleNotFoundError(f"{name} is now {MODULES[name]}", name=name)


def announce() -> None:
    """Give the new name to whoever imports a module by its old one."""
    sys.meta_path.append(_Moved())
