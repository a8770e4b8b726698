"""vLLM of today: an empty role chunk comes together with the first token, usage in a chunk of its own."""

from loadgen.wire.openai_chat import OpenAIChat

DIALECT = OpenAIChat()
