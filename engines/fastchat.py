"""FastChat (Transformers 4.31.0 behind it): two tokens a chunk, no usage in a stream.

Its ``completion_tokens`` is the zero-based index of the last step, one less than the tokens generated
(fastchat 0.2.23, ``serve/inference.py``).
"""

from loadgen.wire.openai_chat import OpenAIChat

DIALECT = OpenAIChat(ask_usage=False, uncounted_tokens=1)
