"""vLLM 0.1.3 (2023-07): no usage in a stream and no ``stream_options``; a tokenizer has to count."""

from loadgen.wire.openai_chat import OpenAIChat

DIALECT = OpenAIChat(ask_usage=False)
