"""The parser of server-sent events against the HTML standard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.wire.sse import parse_sse, split_both_ends, split_plain


def data(body: bytes, *, complete: bool = True) -> list[bytes]:
    return [e.data for e in parse_sse(body, complete=complete)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_end_in_lf_cr_or_crlf(end: bytes) -> None:
    assert data(end.join([b"data: a", b"", b"data: b", b"", b""])) == [b"a", b"b"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_nothing_else_ends_a_line(separator: str) -> None:
    text = f"a{separator}b".encode()
    assert data(b"data: " + text + b"\n\n") == [text]


def test_one_space_after_the_colon_is_optional_and_a_second_one_is_text() -> None:
    assert data(b"data:x\n\ndata: x\n\ndata:  x\n\n") == [b"x", b"x", b" x"]


def test_several_data_lines_are_one_event() -> None:
    assert data(b"data: a\ndata\ndata: b\n\n") == [b"a\n\nb"]


def test_comments_and_unknown_fields_say_nothing() -> None:
    assert data(b": ping\n\nid: 3\nretry: 10\ndata: a\nfoo: bar\n\n:\n\n") == [b"a"]


def test_an_event_has_a_name() -> None:
    (event,) = parse_sse(b"event: error\ndata: a\n\n")
    assert event.name == b"error"


def test_a_byte_order_mark_is_skipped() -> None:
    assert data(b"\xef\xbb\xbfdata: a\n\n") == [b"a"]


def test_a_last_event_without_its_blank_line_counts_only_in_a_complete_body() -> None:
    body = b"data: a\n\ndata: [DONE]"
    assert data(body) == [b"a", b"[DONE]"]
    assert data(body + b"\n") == [b"a", b"[DONE]"]
    assert data(body, complete=False) == [b"a"]


def test_an_event_ends_behind_its_blank_line() -> None:
    body = b"data: a\r\n\r\ndata: b\n\n"
    assert [body[: e.end] for e in parse_sse(body)] == [b"data: a\r\n\r\n", body]


lines = st.text(st.characters(blacklist_characters="\r\n", codec="utf-8"), max_size=20)


@given(st.lists(st.lists(lines, min_size=1, max_size=3), max_size=5), st.sampled_from(["\n", "\r", "\r\n"]))
def test_what_is_written_is_read(events: list[list[str]], end: str) -> None:
    body = "".join("".join(f"data: {line}{end}" for line in event) + end for event in events)
    assert data(body.encode()) == ["\n".join(event).encode() for event in events]


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_without_an_error(body: bytes) -> None:
    for event in parse_sse(body):
        assert 0 < event.end <= len(body)


plain = st.lists(st.sampled_from([b" token", b" role", b"token", b" {}"]), min_size=1, max_size=12)


@given(plain)
def test_a_plain_body_is_split_as_the_parser_splits_it(events: list[bytes]) -> None:
    body = b"".join(b"data:" + event + b"\n\n" for event in events)
    parts, ends = split_plain(body) or ([], [])
    assert parts == events
    assert [body[:end] for end in ends] == [
        b"".join(b"data:" + e + b"\n\n" for e in events[: n + 1]) for n in range(len(events))
    ]


@given(plain)
def test_both_ends_reach_to_the_first_and_from_the_last_wanted_event(events: list[bytes]) -> None:
    body = b"".join(b"data:" + event + b"\n\n" for event in events)
    both = split_both_ends(body, lambda data: b"token" in data)
    assert both is not None
    parts, ends = both.parts, both.ends
    all_ends = (split_plain(body) or ([], []))[1]
    wanted = [index for index, event in enumerate(events) if b"token" in event]
    first, last = (wanted[0], wanted[-1]) if wanted else (len(events), len(events))
    taken = [*range(min(first + 1, len(events))), *range(max(last, first + 1), len(events))]
    assert parts == [events[index] for index in taken]
    assert ends == [all_ends[index] for index in taken]
    assert b"".join(b"data:" + part + b"\n\n" for part in parts[: both.head]) == body[: both.between[0]]
    assert b"".join(b"data:" + part + b"\n\n" for part in parts[both.head :]) == body[both.between[1] :]


@pytest.mark.parametrize(
    "odd",
    [
        b": ping\n\n",
        b"event: error\ndata: a\n\n",
        b"data: a\ndata: b\n\n",
        b"data: a\r\n\r\n",
        b"data:\n\n",
        b"data: \n\n",
        b"data: a\n\n\n",
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(odd: bytes) -> None:
    assert split_plain(odd + b"data: token\n\n") is None
    assert split_both_ends(odd + b"data: token\n\n", lambda data: b"token" in data) is None
