"""Text on terminals: broken between words."""

from loadgen.terminal_text import columns, wrapped


def test_text_is_broken_between_words_but_neither_in_paths_nor_in_commands() -> None:
    path = "/a/path/that/is/longer/than/the/line"
    text = f"  check: see {path}, then run `loadgen report results/x` again and again"
    assert wrapped(text, 30, 4).split("\n") == [
        "  check: see",
        f"    {path},",
        "    then run",
        "    `loadgen report results/x`",
        "    again and again",
    ]
    assert wrapped(text, 200, 4) == text


def test_wide_characters_take_two_columns() -> None:
    assert columns("\u6a21\u578b") == 4
    assert columns("e\u0301") == 1
    assert wrapped("\u6a21\u578b \u6a21\u578b", 8, 0) == "\u6a21\u578b\n\u6a21\u578b"
