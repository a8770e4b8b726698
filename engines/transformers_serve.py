"""``transformers serve``: usage always comes in the last chunk, there is no ``[DONE]``, unknown fields are refused."""

from loadgen.wire.openai_chat import OpenAIChat

DIALECT = OpenAIChat(ask_usage=False)
