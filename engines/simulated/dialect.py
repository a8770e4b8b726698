"""How the truth server is spoken to: as vLLM is."""

from loadgen.wire.openai_chat import OpenAIChat

DIALECT = OpenAIChat()
