"""text-generation-inference since 1.4 on its OpenAI route."""

from loadgen.wire.openai_chat import OpenAIChat

DIALECT = OpenAIChat()
