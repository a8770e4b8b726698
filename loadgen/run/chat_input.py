"""What a user's code may pass as the input of a request, and the messages that it becomes."""

from collections.abc import Iterable, Mapping

from loadgen.request import Message

MessageInput = Message | Mapping[str, object] | str
ChatInput = str | Iterable[MessageInput]
"""A question; or the messages of a chat: each a dict with ``role`` and ``content``, or a string. A string after a
user's message is an answer of the assistant, any other is a question of the user."""

_FIELDS = {"role", "content"}


def messages_of(content: ChatInput) -> tuple[Message, ...]:
    """Return the messages of an input.

    Raises ValueError for an empty chat, for a message without role or content, and for text that UTF-8 cannot encode;
    TypeError for anything that is not a message.
    """
    parts: Iterable[MessageInput] = (content,) if isinstance(content, str) else content
    if isinstance(parts, Mapping) or not isinstance(parts, Iterable):
        raise TypeError(f"the input of chat() is a string or a list of messages, not {type(content).__name__}")
    messages: list[Message] = []
    for part in parts:
        messages.append(_message(part, messages[-1] if messages else None))
    if not messages:
        raise ValueError("the input of chat() has no message")
    return tuple(messages)


def _message(part: object, before: Message | None) -> Message:
    if isinstance(part, str):
        role = "assistant" if before is not None and before.role == "user" else "user"
        return _checked(role, part)
    if isinstance(part, Message):
        return part
    if not isinstance(part, Mapping):
        raise TypeError(f"a message of chat() is a dict with role and content, or a string, not {type(part).__name__}")
    if set(part) != _FIELDS:
        raise ValueError(f"a message of chat() has the fields role and content, not {', '.join(map(str, part))}")
    return _checked(part["role"], part["content"])


def _checked(role: object, content: object) -> Message:
    if not isinstance(role, str) or not isinstance(content, str):
        raise TypeError("role and content of a message of chat() are strings")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise ValueError("a message of chat() has an unpaired surrogate; it cannot be encoded as UTF-8") from None
    return Message(str(role), str(content))
