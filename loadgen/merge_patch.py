"""JSON Merge Patch (RFC 7396): objects are merged level by level, and null removes a field."""

from collections.abc import Mapping
from typing import Any

import msgspec


def parse_patch(text: str) -> dict[str, Any]:
    """Read a JSON object; raises ValueError for anything else."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"a JSON object is needed, or @FILE to read it from a file ({error}).") from None


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with a patch applied."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            below = result.get(name)
            result[name] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            result[name] = value
    return result
