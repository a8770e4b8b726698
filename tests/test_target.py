"""The base URL that a user gives."""

import pytest

from loadgen.wire.target import parse_target, without_route

ROUTE = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:8000", "http://h:8000/v1/chat/completions"),
        ("http://h", "http://h/v1/chat/completions"),
        ("http://h:80/", "http://h/v1/chat/completions"),
        ("https://h:8443/v1", "https://h:8443/v1/chat/completions"),
        ("http://h/api/v1/", "http://h/api/v1/chat/completions"),
        ("http://h/api/v3", "http://h/api/v3/chat/completions"),
        ("http://h/v1beta", "http://h/v1beta/v1/chat/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
        ("http://h/api/v4/chat/completions/", "http://h/api/v4/chat/completions"),
        (
            "http://h/deployments/d/chat/completions?api-version=1",
            "http://h/deployments/d/chat/completions?api-version=1",
        ),
        ("http://h?api-version=1", "http://h/v1/chat/completions?api-version=1"),
        ("http://[::1]:9", "http://[::1]:9/v1/chat/completions"),
    ],
)
def test_a_base_url_keeps_its_path_and_its_query_and_gets_the_rest_of_the_route(url: str, expected: str) -> None:
    target, route = without_route(parse_target(url), ROUTE)
    assert target.origin + target.path_of(route or ROUTE) == expected


@pytest.mark.parametrize(
    ("base", "endpoint", "expected"),
    [
        ("http://h", "/chat", "/chat"),
        ("http://h/v1", "/chat/completions", "/v1/chat/completions"),
        ("http://h/v1", "/v1/chat/completions", "/v1/chat/completions"),
        ("http://h/v1beta/openai", "/chat/completions", "/v1beta/openai/chat/completions"),
        ("http://h/a?x=1", "/chat?y=2", "/a/chat?y=2&x=1"),
    ],
)
def test_an_endpoint_takes_the_place_of_the_route(base: str, endpoint: str, expected: str) -> None:
    assert parse_target(base).path_of(endpoint) == expected


@pytest.mark.parametrize("base", ["http://h", "http://h/v1", "http://h/api/v1", "http://h/api"])
def test_metrics_are_found_without_the_version(base: str) -> None:
    assert (
        parse_target(base).unversioned_path_of("/metrics")
        == base.removeprefix("http://h").removesuffix("/v1") + "/metrics"
    )


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
        ("http://h/?key=1", "would show in process lists"),
        ("http://h/?a=b#c", "no '#'"),
    ],
)
def test_what_is_no_base_url_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        parse_target(url)
    assert "secret" not in str(refused.value)
