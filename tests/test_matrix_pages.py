"""The matrix as Markdown, as a page and on a terminal: all that it says is there, and nothing in it can do harm."""

import re
from html.parser import HTMLParser

import pytest
from support.summaries import verdict
from test_matrix_tables import drawn, made, result, speed, streaming, sweep

from loadgen.matrix.document import Document, letter
from loadgen.matrix.html import html
from loadgen.matrix.markdown import markdown

EVIL = "<script>alert(1)</script> | **x** `y` [a](http://b)\nnew [bold]line"


class Page(HTMLParser):
    """Every element closed in its order, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"href", "src"}]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def full() -> Document:
    measured = {
        "speed": (speed(9.0, (8, 10), verdict=verdict("WARN", **{EVIL: "warn"})),),
        "streaming": (streaming(40.0, 9.5),),
        "throughput": (sweep(14.5, (14, 15), 32, 77.0),),
        "bound": 10.0,
        "bound_text": EVIL,
        "time_factor": 2,
        "reservations": (EVIL,),
    }
    results = [
        result(EVIL, EVIL, **measured, input_tokens={1: 2}),
        result("b", EVIL, speed=(speed(8.0, (7, 9)),), input_tokens={1: 3}),
        result(EVIL, "n", failed=EVIL),
        result("b", "n", skipped=EVIL),
    ]
    targets = [(EVIL, "javascript:alert(1)"), ("x", "//evil/a b(c).html"), ("y", "01-m/speed/report.html")]
    return made(*results, links={(EVIL, EVIL): targets})


def test_the_page_is_whole_and_refers_to_nothing_outside_its_folder() -> None:
    page = Page(html(full()))
    assert page.open == []
    assert "script" not in page.tags
    inside = [at for at in page.references if at.startswith("#")]
    assert html(full()).count("</svg>") == 2
    assert {at[1:] for at in inside} <= set(page.ids)
    assert [at for at in page.references if not at.startswith("#")] == [
        "javascript%3Aalert%281%29",
        "evil/a%20b%28c%29.html",
        "01-m/speed/report.html",
    ]
    assert len(page.ids) == len(set(page.ids))
    for outside in ("https://", "@import"):
        assert outside not in html(full())
    assert set(re.findall(r"url\((.)", html(full()))) <= {"#"}


def test_hostile_names_break_neither_markdown_nor_terminal() -> None:
    text = markdown(full())
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "](http://b)" not in text.replace("\\](http://b)", "")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {4, 8}
    assert "[bold]line" in drawn(full(), 200)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_narrow_terminal_gets_the_table_in_parts_of_which_nothing_is_cut(width: int) -> None:
    engines = [f"engine {i}" for i in range(8)]
    of = made(*(result(e, speed=(speed(100.0 + i, (99.0 + i, 101.0 + i)),)) for i, e in enumerate(engines)))
    text = drawn(of, width)
    assert max(map(len, text.splitlines())) <= width
    for i in range(8):
        assert f"10{i}.0" in text
        assert f"[{99 + i:.1f}".replace("99.0", "99.00")[:4] in text
    assert text.count("Speed, output") == {40: 4, 80: 2, 100: 2}[width]


def test_letters_go_on_after_z() -> None:
    assert [letter(i) for i in (0, 25, 26, 27, 52, 701, 702)] == ["a", "z", "aa", "ab", "ba", "zz", "aaa"]


def test_no_results_are_no_error() -> None:
    of = made()
    for page in (markdown(of), html(of), drawn(of)):
        assert "0 engines, 0 models, prompts: LIMA" in page
