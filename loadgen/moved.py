"""Former module names: importing one raises an error with the new name."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

MODULES = {
    "loadgen.harness.accept": "loadgen.run.accept",
    "loadgen.harness.clocks": "loadgen.run.clocks (Offset is now ClockOffset)",
    "loadgen.harness.conductor": "loadgen.run.controller (Conductor is now RunController)",
    "loadgen.harness.exporting": "loadgen.run.exporting",
    "loadgen.harness.key_hosts": "loadgen.run.key_hosts",
    "loadgen.harness.load_kind": "loadgen.run.load.model (LoadKind is now LoadModel)",
    "loadgen.harness.loads": "loadgen.run.load.catalogue (Closed, Sweep and Open have a module each there)",
    "loadgen.harness.messages": "loadgen.run.messages (Orders is now RunAssignment, Go is now StartStep)",
    "loadgen.harness.meter": "loadgen.harness.engine_monitor",
    "loadgen.harness.part": "loadgen.run.share (Part is now RunShare)",
    "loadgen.harness.preflight": "loadgen.run.preflight",
    "loadgen.harness.prepare": "loadgen.run.prepare",
    "loadgen.harness.scrape": "loadgen.harness.engine_monitor",
    "loadgen.harness.secrets": "loadgen.run.secrets",
    "loadgen.harness.start": "loadgen.run.setup",
    "loadgen.harness.team": "loadgen.run.remote_pool (Workers is now RemotePool)",
    "loadgen.wire.answer": "loadgen.protocol.completion (Answer is now Completion)",
    "loadgen.wire.client": "loadgen.protocol.client",
    "loadgen.wire.decode": "loadgen.protocol.decode",
    "loadgen.wire.dialect": "loadgen.protocol.api (Dialect is now Api, Ask is loadgen.Request)",
    "loadgen.wire.job": "loadgen.request (Job is now Request)",
    "loadgen.wire.openai_chat": "loadgen.protocol.chat (OpenAIChat is now ChatApi)",
    "loadgen.wire.openai_sdk": "loadgen.protocol.openai_sdk",
    "loadgen.wire.reception": "loadgen.wire.response_reader (Reception is now ResponseReader)",
    "loadgen.wire.recording": "loadgen.protocol.records",
    "loadgen.wire.tokenizer": "loadgen.protocol.tokenizer",
    "loadgen.wire.uniform": "loadgen.protocol.uniform",
}


_USERS = {
    "ClosedLoopUser": "loadgen.LLMUser (self.ask_next_prompt() is now self.llm.chat(self.llm.next_prompt()))",
    "RampedUser": "loadgen.SweepUser (self.ask_next_prompt() is now self.llm.chat(self.llm.next_prompt()))",
}


def moved_user(module: str, name: str) -> ImportError | None:
    """Return an error with the new name of a user class; None if the name was never one."""
    return ImportError(f"{module}.{name} is now {_USERS[name]}", name=module) if name in _USERS else None


class _Moved(MetaPathFinder):
    """Runs after all other finders, for modules that none of them has found."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:  # noqa: ARG002
        """Raise ModuleNotFoundError with the new name of a module that has moved."""
        if name in MODULES:
            raise ModuleNotFoundError(f"{name} is now {MODULES[name]}", name=name)


def announce() -> None:
    """Give the new name to whoever imports a module by its old one."""
    sys.meta_path.append(_Moved())
