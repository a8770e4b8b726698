"""llama.cpp's server: it reports its own timings. Its prompt cache is off, or a repeated prompt would cost nothing."""

from loadgen.wire.openai_chat import OpenAIChat

DIALECT = OpenAIChat(extra={"cache_prompt": False})
