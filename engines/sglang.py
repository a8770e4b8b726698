"""SGLang: reasoning comes apart from content, in deltas named ``reasoning_content``."""

from loadgen.wire.openai_chat import OpenAIChat

DIALECT = OpenAIChat()
