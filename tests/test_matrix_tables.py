"""The matrix's tables: what stands in each place, what is said of it, and that nothing in it can do harm."""

import io
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console
from support.summaries import Interval, best, figure, summary, verdict
from test_measure import record, shifted
from test_results import RECORDS, manifest

from loadgen.matrix.document import Document, Entry, Table
from loadgen.matrix.html import html
from loadgen.matrix.markdown import markdown
from loadgen.matrix.result import Result
from loadgen.matrix.spread import over_runs
from loadgen.matrix.tables import Links, document
from loadgen.matrix.terminal import show
from loadgen.measure.statistics import Distribution
from loadgen.results.summary import summarise
from loadgen.results.summary_schema import Speed, Summary
from loadgen.results.text import ABSENT


def speed(value: float | None, ci95: Interval | None = None, **changes: Any) -> Summary:
    mean = None if value is None else figure(value, ci95)
    return summary(speed=Speed(tokens_per_second_mean=mean, tokens_per_second_total=mean), **changes)


def streaming(ttft: float, tpot: float, p99: float | None = None) -> Summary:
    latencies = {"ttft_ms": Distribution(n=100, p50=ttft, p99=p99), "tpot_ms": Distribution(n=100, p50=tpot)}
    return summary(latency=latencies)


def sweep(value: float | None, ci95: Interval | None, at: int, tokens: float | None = None) -> Summary:
    return summary(kind="throughput", throughput=best(figure(value, ci95), at, output_tokens_per_second=tokens))


def result(engine: str = "vllm", model: str = "m", **values: Any) -> Result:
    return Result(engine=engine, model=model, **values)


def made(*results: Result, links: Links | None = None) -> Document:
    return document(results, dataset="LIMA", links=links)


def table(of: Document, key: str = "speed") -> Table:
    return next(found for found in of.tables if found.key == key)


def entry(of: Document, row: int = 0, column: int = 1, key: str = "speed") -> Entry:
    return table(of, key).rows[row][column]


def footnotes(of: Table, notes: Sequence[str]) -> list[str]:
    return [of.footnotes["abcdefgh".index(note)] for note in notes]


def beside(of: Entry) -> list[str]:
    return [words.text for words in of.beside]


def drawn(of: Document, width: int = 80) -> str:
    out = io.StringIO()
    show(of, Console(file=out, width=width))
    return out.getvalue()


def test_rows_are_models_and_columns_engines_in_the_order_given() -> None:
    found = table(made(*(result(e, m, speed=(speed(1.0),)) for m in ("z", "a") for e in ("second", "first"))))
    assert found.columns == ("model", "second", "first")
    assert [row[0].text for row in found.rows] == ["z", "a"]


def test_the_highest_of_a_row_is_bold_and_the_others_are_not() -> None:
    of = made(result("a", speed=(speed(48.42, (48, 49)),)), result("b", speed=(speed(50.5, (50, 51)),)))
    assert [entry(of, 0, i).best for i in (1, 2)] == [False, True]
    assert entry(of, 0, 2) == Entry("50.50", interval="[50.00, 51.00]", best=True)
    assert "| m | 48.42 \\[48.00, 49.00\\] | **50.50** \\[50.00, 51.00\\] |" in markdown(of)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ((49.9, 50.5), "Cannot be told apart from a: the 95 % intervals overlap."),
        (None, "Not known to differ from a: an interval is missing."),
    ],
)
def test_a_best_that_is_not_known_to_differ_from_others_says_so(other: tuple[float, float] | None, said: str) -> None:
    of = made(result("a", speed=(speed(50.2, other),)), result("b", speed=(speed(50.4, (50, 51)),)))
    assert entry(of, 0, 2).best
    assert footnotes(table(of), entry(of, 0, 2).notes) == [said]


@pytest.mark.parametrize("status", ["INVALID", "INCONCLUSIVE"])
def test_what_may_not_be_believed_is_marked_and_never_the_best(status: str) -> None:
    bad = speed(90.0, (89, 91), verdict=verdict(status, failures=status.lower(), workers="ok", load="warn"))
    of = made(*(result(e, speed=(s,)) for e, s in (("a", bad), ("b", speed(9.0)), ("c", speed(8.0)))))
    assert [entry(of, 0, i).best for i in (1, 2, 3)] == [False, True, False]
    mark = entry(of).marks[0]
    assert (mark.text, mark.verdict) == (status, status)
    assert footnotes(table(of), mark.notes) == [
        f"{status}, checks not passed: failures ({status.lower()}), load (warn)."
    ]
    for page in (markdown(of), html(of), drawn(of)):
        assert status in page
        assert f"failures ({status.lower()})" in page


def test_a_run_with_a_warning_is_marked_and_may_be_the_best() -> None:
    warned = speed(9.0, verdict=verdict("WARN", load="warn"))
    of = made(result("a", speed=(warned,)), result("b", speed=(speed(8.0),)))
    assert entry(of).best
    assert [mark.text for mark in entry(of).marks] == ["WARN"]


def test_one_figure_alone_is_not_the_best_of_its_row() -> None:
    assert not entry(made(result("a", speed=(speed(9.0),)), result("b", failed="no"))).best


def test_failed_and_skipped_and_not_measured_look_different_and_say_why() -> None:
    of = made(
        result("a", failed="\x1b[31m\nout of memory\x1b[0m\nTraceback"),
        result("b", skipped="no MPT"),
        result("c"),
        result("d", "n", speed=(speed(9.0),)),
        result("e", speed=(speed(None),)),
    )
    assert [e.text for e in table(of).rows[0]] == ["m", "failed", "-", ABSENT, ABSENT, ABSENT]
    notes = [footnotes(table(of), e.notes) for e in table(of).rows[0][1:]]
    gave_none = "It was run, and gave no figure: see its report."
    assert notes == [["Failed: out of memory"], ["Not tried: no MPT"], [], [], [gave_none]]
    assert f"{ABSENT}: not measured." in table(of).notes
    assert [t.key for t in of.tables] == ["speed", "details"]


def test_nothing_that_was_not_measured_is_a_zero() -> None:
    of = made(result("a", speed=(speed(None),), streaming=(), throughput=(sweep(None, None, 8),)), result("b"))
    cells = [cell for t in of.tables for row in t.rows for cell in row]
    assert not [cell for cell in cells if cell.text.startswith("0")]
    assert entry(of, key="throughput").text == ABSENT
    assert entry(of, key="throughput").where == ""


def test_a_failure_for_which_the_tables_have_no_place_is_told_below() -> None:
    of = made(result(speed=(speed(9.0),), failed="repeat 2: gone\nmore"))
    assert [finding.text for finding in of.findings] == ["m on vllm: failed: repeat 2: gone"]
    assert not made(result(streaming=(streaming(1, 1),), failed="gone")).findings


def test_reference_values_stand_beside_with_what_speaks_against_them() -> None:
    kept = {"speed": (speed(9.0),), "reference": "vllm-0.1.3"}
    later = result("TGI", "falcon-7b-instruct", reference="tgi-1.0.1", failed="gone")
    of = made(
        result("vLLM", "vicuna-13b-v1.3", **kept),
        later,
        result("vLLM", "mpt-7b-chat", **kept),
        result("vLLM", "m", **kept),
    )
    assert beside(entry(of, 0)) == ["reference 41.14 (disputed)"]
    assert footnotes(table(of), entry(of, 0).beside[0].notes)[0].startswith("Disputed: the author renamed the row")
    assert beside(entry(of, 1, 2)) == ["reference 86.71 (later)"]
    assert beside(entry(of, 2)) == ["reference 84.37"]
    assert beside(entry(of, 3)) == []
    assert "later: after the specification" in table(of).notes_beside[-1]


def test_the_share_of_the_bound_says_what_the_bound_is_of() -> None:
    one = [result("a", m, speed=(speed(30.0),), bound=60.0, bound_text="1x A100") for m in ("m", "n")]
    two = result("a", "o", speed=(speed(66.0),), bound=60.0, bound_text="2x A100, tensor parallel")
    of = made(*one, two)
    assert [beside(entry(of, i)) for i in (0, 2)] == [["50 % of bound 60.0"], ["110 % of bound 60.0"]]
    assert entry(of, 0).beside[0].notes == ()
    assert "1x A100 unless said otherwise" in table(of).notes_beside[0]
    assert footnotes(table(of), entry(of, 2).beside[0].notes) == [
        "The bound is that of 2x A100, tensor parallel.",
        "More than the bound allows: weights or GPUs are not those that it was made of.",
    ]


def test_throughput_says_at_how_many_users_and_how_many_tokens() -> None:
    of = made(
        result(
            model="llama2-70b-chat", throughput=(sweep(14.5, (14, 15), 32, 1234.5),), reference="vllm-0.1.3", bound=9
        )
    )
    found = entry(of, key="throughput")
    assert (found.text, found.interval, found.where) == ("14.50", "[14.00, 15.00]", "at 32 users")
    assert beside(found) == ["1,234 output tokens/s", "reference 14.4 (later)"]
    assert [table.key for table in of.tables] == ["throughput"]  # nothing was asked of its speed


@pytest.mark.parametrize(("at", "said"), [((1,), "at 1 user"), ((64, 32, 32), "at 32 and 64 users")])
def test_repeats_of_a_sweep_may_be_best_at_several_numbers_of_users(at: Sequence[int], said: str) -> None:
    of = made(result(throughput=tuple(sweep(14.5, None, users) for users in at)))
    assert entry(of, key="throughput").where == said


def test_the_interval_between_runs_is_students() -> None:
    # mean 50, s = 2, t(2 degrees of freedom, 0.975) = 4.302653, half = 4.302653 * 2 / sqrt 3 = 4.968275
    found = over_runs([figure(v, (v - 1, v + 1)) for v in (48.0, 50.0, 52.0)])
    assert found is not None
    assert (found.value, found.runs, found.lowest, found.highest, found.between) == (50, 3, 48, 52, True)
    assert found.ci95 == pytest.approx((45.031725, 54.968275))
    assert found.cv == pytest.approx(0.04)


def test_the_mean_interval_within_runs_holds_where_it_is_wider() -> None:
    # between: s = 0.1 / sqrt 2, t(1, 0.975) = 12.7062, half = 12.7062 * s / sqrt 2 = 0.635
    # within: 3 and 2 below, 1 and 2 above, so 2.5 and 1.5 of the mean 50.05
    found = over_runs([figure(50.0, (47, 51)), figure(50.1, (48.1, 52.1)), None, figure(None)])
    assert found is not None
    assert (found.runs, found.between) == (2, False)
    assert found.ci95 == pytest.approx((47.55, 51.55))


def test_one_run_has_its_own_interval_and_no_spread() -> None:
    found = over_runs([figure(50.0, (49, 51.5))], 0.1)
    assert found is not None
    assert (found.value, found.ci95, found.cv) == (5.0, pytest.approx((4.9, 5.15)), None)
    assert over_runs([None]) is None


def test_repeats_show_their_spread_and_which_interval_it_is() -> None:
    of = made(result(speed=tuple(speed(v, (v - 1, v + 1)) for v in (48.0, 50.0, 52.0))))
    assert (entry(of).text, entry(of).interval) == ("50.00", "[45.03, 54.97]")
    assert beside(entry(of)) == ["3 runs: 48.00 to 52.00", "CV 4 %, interval between runs"]
    assert "Mean of 3 runs" in table(of).notes[1]
    assert "One run each" in table(made(result(speed=(speed(9.0),)))).notes[1]


def test_invalid_repeats_are_left_out_and_told() -> None:
    bad = speed(10.0, (9, 11), verdict=verdict("INVALID", failures="invalid"))
    of = made(result(speed=(speed(50.0, (49, 51)), bad)))
    assert (entry(of).text, entry(of).interval) == ("50.00", "[49.00, 51.00]")
    assert [mark.text for mark in entry(of).marks] == ["1 run left out"]
    assert footnotes(table(of), entry(of).marks[0].notes) == ["INVALID, checks not passed: failures (invalid)."]


def test_a_simulation_that_ran_faster_is_shown_in_its_own_time() -> None:
    of = made(
        result(
            speed=(speed(500.0, (490, 510)),),
            streaming=(streaming(4.0, 2.5),),
            throughput=(sweep(1200.0, (1190, 1210), 8, 2000.0),),
            time_factor=10,
            reservations=("SIMULATED",),
        )
    )
    assert (entry(of).text, entry(of).interval) == ("50.00", "[49.00, 51.00]")
    assert entry(of, key="throughput").text == "120.0"
    assert beside(entry(of, key="throughput")) == ["200.0 output tokens/s"]
    assert [e.text for e in table(of, "details").rows[0][3:]] == ["40.00", "25.00", "50.00", "120"]
    assert "simulated, 10 times as fast" in of.notes[0]


def test_a_reservation_of_all_results_is_in_the_title_and_others_at_their_figures() -> None:
    real = result("a", speed=(speed(9.0),), reservations=("random weights",))
    other = result("b", speed=(speed(8.0),), reservations=("SIMULATED", "random weights"))
    of = made(other, real, result("c", skipped="no"))
    assert of.title == "3 engines, 1 model, prompts: LIMA (random weights)"
    assert [[mark.text for mark in entry(of, 0, i).marks] for i in (1, 2)] == [["SIMULATED"], []]
    assert [mark.text for mark in table(of, "details").rows[0][2].marks] == ["SIMULATED", "VALID"]
    assert not entry(of, 0, 2).best
    for page in (markdown(of), html(of), drawn(of)):
        assert "random weights" in page
        assert page.count("SIMULATED") == 2


def test_the_long_table_has_latencies_totals_and_both_verdicts() -> None:
    warned = speed(9.0, verdict=verdict("WARN", load="warn"))
    of = made(
        result(speed=(warned,), streaming=(streaming(40.0, 9.5),)), result(model="n", speed=(speed(9.0),), failed="x")
    )
    found = table(of, "details")
    assert found.columns[2:5] == ("verdict", "TTFT p50, ms", "TPOT p50, ms")
    assert [[mark.text for mark in row[2].marks] for row in found.rows] == [
        ["streaming: VALID", "speed: WARN"],
        ["VALID"],
    ]
    assert [e.text for e in found.rows[0][3:]] == ["40.00", "9.50", "9.00", "120"]
    assert [e.text for e in found.rows[1][3:]] == ["failed", ABSENT, "9.00", "120"]


def test_a_p99_has_a_column_only_where_one_is_known() -> None:
    of = made(result(streaming=(streaming(40.0, 9.5, p99=90.0),)))
    assert table(of, "details").columns[3:6] == ("TTFT p50, ms", "TTFT p99, ms", "TPOT p50, ms")


def test_latencies_of_repeats_are_their_mean_with_the_lowest_and_the_highest() -> None:
    of = made(result(streaming=(streaming(40.0, 9.5), streaming(44.0, 9.5))))
    assert [(e.text, e.interval) for e in table(of, "details").rows[0][3:5]] == [
        ("42.00", "40.00 to 44.00"),
        ("9.50", ""),
    ]


def test_prompt_tokens_that_differ_between_engines_are_a_finding_with_an_example() -> None:
    counted = [("a", {1: 40, 2: 50, 3: 60}), ("b", {1: 40, 2: 52, 3: 61}), ("c", {4: 7})]
    of = made(*(result(e, speed=(speed(9.0),), input_tokens=tokens) for e, tokens in counted))
    text = "m: prompt tokens differ between engines on 2 of 3 rows, so that they were not asked the same; "
    assert [tuple(finding) for finding in of.findings] == [(f"{text}row 2: 50 on a and 52 on b.", False)]


def test_equal_prompt_tokens_are_stated_and_unknown_ones_too() -> None:
    same = [result(e, speed=(speed(9.0),), input_tokens={1: 40, 2: 50}) for e in ("a", "b")]
    unknown = [result(e, "n", speed=(speed(9.0),)) for e in ("a", "b")]
    alone = result("a", "o", speed=(speed(9.0),), input_tokens={1: 40})
    assert [tuple(finding) for finding in made(*same, *unknown, alone).findings] == [
        ("The same prompt tokens on all engines, row by row: m (2 engines, 2 rows).", True),
        ("Prompt tokens were not compared, as fewer than two engines counted those of a row: n.", False),
    ]


def test_an_engine_that_tells_only_the_sum_is_compared_by_it() -> None:
    told = result("a", speed=(speed(9.0),), input_tokens={1: 40, 2: 50}, prompt_tokens=90)
    same = result("b", speed=(speed(9.0),), prompt_tokens=90)
    assert [tuple(finding) for finding in made(told, same).findings] == [
        ("m: b tells only the sum of its prompt tokens, 90, which is that of a too.", True)
    ]
    other = result("b", speed=(speed(9.0),), prompt_tokens=92, templates="FastChat")
    text = "m: b tells only the sum of its prompt tokens, 92, and it is 90 on a."
    assert [tuple(finding) for finding in made(told, other).findings] == [
        (f"{text} b takes chat templates from elsewhere (FastChat).", False)
    ]


def test_where_templates_come_from_explains_a_difference() -> None:
    counted = [("a", {1: 40}, None), ("b", {1: 42}, "FastChat, by name")]
    of = made(*(result(e, speed=(speed(9.0),), input_tokens=t, templates=where) for e, t, where in counted))
    assert of.findings[0].text.endswith(" b takes chat templates from elsewhere (FastChat, by name).")


def test_the_summaries_of_real_runs_have_what_the_tables_need() -> None:
    alone = summarise(manifest(scenario={"max_tokens": 512, "client": "own", "no_stream": True}), RECORDS)
    closed = summarise(
        manifest(kind="throughput", users=2),
        [record(i, **shifted(record(), 100 * (i // 2) * 2 + i % 2)) for i in range(40)],
    )
    of = made(result(speed=(alone,), streaming=(alone,), throughput=(closed,)))
    assert entry(of).text == "33.33"
    assert [e.text for e in table(of, "details").rows[0][3:5]] == ["100.0", "10.00"]
    assert entry(of, key="throughput").where in {"", "at 2 users"}
