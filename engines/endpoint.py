"""Any OpenAI-compatible endpoint: nothing is assumed beyond the protocol."""

from loadgen.wire.openai_chat import OpenAIChat

DIALECT = OpenAIChat()
