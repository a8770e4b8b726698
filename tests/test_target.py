"""The base URL that a user gives."""

import pytest

from loadgen.wire.target import parse_target


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:8000", "http://h:8000"),
        ("http://h", "http://h"),
        ("http://h:80/", "http://h"),
        ("https://h", "https://h"),
        ("https://h:8443/v1", "https://h:8443"),
        ("http://h/api/v1/", "http://h/api"),
        ("http://h/v1beta", "http://h/v1beta"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_a_base_url_keeps_its_path_and_v1_is_not_doubled(url: str, expected: str) -> None:
    assert parse_target(url).url == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "the scheme is missing; write http://localhost:8000"),
        ("h", "scheme is missing"),
        ("ftp://h", "only http"),
        ("http://", "has no host name"),
        ("http://h:port", "Port could not be cast"),
        ("http://user:secret@h", "no credentials in the URL"),
        ("http://user:secret@h:port", "no credentials in the URL"),
        ("user:secret@h:80", "no credentials in the URL"),
        ("http://user:secret@", "no credentials in the URL"),
        ("http://h:0", "port 0 is not valid"),
        ("http://h/\u20ac", "in ASCII"),
        ("http://h/?key=1", "no '\\?'"),
    ],
)
def test_what_is_no_base_url_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        parse_target(url)
    assert "secret" not in str(refused.value)
