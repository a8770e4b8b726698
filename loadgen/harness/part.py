"""One process's part of a run: hands its users their requests, keeps their records, and reports."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import gevent
import gevent.pool
from gevent.event import Event
from msgspec.structs import replace

from loadgen.clock import MS, SECOND, Ns, now
from loadgen.harness.health import Health
from loadgen.harness.messages import Go, Orders, Report
from loadgen.measure import metrics
from loadgen.measure.histogram import Histogram
from loadgen.protocol.completion import Exchange
from loadgen.protocol.records import dropped
from loadgen.record import Phase, RequestRecord
from loadgen.request import Place, Request
from loadgen.results.store import RecordFile
from loadgen.scenario import Process, Scenario
from loadgen.workload.arrivals import schedule, shard
from loadgen.workload.prompts import Prompt
from loadgen.workload.source import RequestDefaults, input_of, source_of

OPEN_AHEAD_MS = 50
"""Connections for requests with a time of their own are opened so long before it, lest connecting delay them."""

_YOUNG_ONLY = (2_000, 1_000, 1_000_000)
"""Thresholds of the three generations while a run goes on: collections so small that none stops the users for a
millisecond."""

_GOLDEN = 0.6180339887498949
"""Multiples of it, without their whole part, fill the span from 0 to 1 evenly, however many there will be."""

_RATES = {"ttft_ms": metrics.ttft_ms, "tpot_ms": metrics.tpot_ms, "e2e_ms": metrics.e2e_ms}


class Part:
    """The requests of one process. Users call :meth:`next_request`; records come to :meth:`keep`.

    Nothing is handed out before :meth:`go`, and nothing after :meth:`finish`.
    """

    def __init__(
        self,
        orders: Orders,
        scenario: Scenario,
        file: RecordFile,
        *,
        on_record: Callable[[RequestRecord], None],
        on_done: Callable[[], None],
        count_users: Callable[[], int | None],
    ) -> None:
        self.orders = orders
        self.scenario = scenario
        self.in_flight: dict[str, Ns] = {}
        """When each was handed out."""
        self.started = 0
        self.finishing = False
        self.on_full_disk: Callable[[OSError], None] = lambda _error: None
        """Called once, when a record cannot be written."""
        self._disk_is_full = False
        self._file = file
        self._on_record, self._on_done, self._count_users = on_record, on_done, count_users
        self._defaults = RequestDefaults(
            model=orders.model,
            max_tokens=scenario.max_tokens,
            temperature=scenario.temperature,
            stream=scenario.stream,
            stop=orders.stop,
        )
        self._source = source_of(scenario, orders.sample, self._defaults, orders.shard, orders.shards)
        self._quota = None if orders.planned is None else len(range(orders.shard, orders.planned, orders.shards))
        self._handed_out = self._kept = 0
        self._go: Go | None = None
        self._went = Event()
        self._released = Event()
        self._enrolled = 0
        self._without_more: set[int] = set()
        """Users for which the source has nothing left."""
        self._first_at: dict[int, Ns] = {}
        self._unreported: list[RequestRecord] = []
        self._reports = 0
        self._cpu = (time.process_time(), time.monotonic())
        self._health = Health()
        self._closed = False
        self.requests = gevent.pool.Group()
        """Greenlets that make requests and are no users': of the warm-up, and of an open loop."""
        self._gc_thresholds = gc.get_threshold()

    @property
    def done(self) -> bool:
        """Whether all that was planned has been made."""
        return self._quota is not None and self._kept >= self._quota

    def go(self, go: Go) -> None:
        """Let users begin, or go on with the next step of the load.

        The garbage collector leaves alone what is there by now, and looks at young objects only: a collection of
        everything stops all users for tens of milliseconds, and requests leave no cycles behind.
        """
        if self._go is None:
            gc.collect()
            gc.freeze()
            self._gc_thresholds = gc.get_threshold()
            gc.set_threshold(*_YOUNG_ONLY)
            self._health.start()
        self._go = go
        self._went.set()

    def enrol(self) -> int:
        """Return a user's number: 0, 1, ..."""
        self._enrolled += 1
        return self._enrolled - 1

    def next_request(self, user: int) -> Request | None:
        """Return the next request for a user to make, None when there is none.

        Waits until the run has begun, and before a user's first request for its turn: starts are spread.
        """
        self._went.wait()
        not_before = self._first_time(user)
        if self._quota is not None and self._handed_out >= self._quota:
            self._released.wait()  # Locust stumbles over users that end while it stops them
        if self._is_finishing():
            self._released.wait()
            return None
        request = self._source.next(user * self.orders.shards + self.orders.shard)
        if request is None:
            self._has_no_more(user)
            return None
        return self._hand_out(request, not_before=not_before)

    def _has_no_more(self, user: int) -> None:
        """Note that the source has nothing left for a user; once that holds for all, the load is complete."""
        self._without_more.add(user)
        if len(self._without_more) >= self._enrolled:
            self.sent_all()
        self._released.wait()

    def note_result(self, request: Request, exchange: Exchange) -> None:
        """Pass what became of a request on to the source."""
        self._source.done(request, exchange)

    def arrivals(self) -> Iterator[Request]:
        """Yield the requests of this part of an open loop's schedule, each just before it is due; waits for the start.

        A request yielded has to be made or dropped.
        """
        self._went.wait()
        go, scenario, orders = self._go, self.scenario, self.orders
        if go is None:  # the run has ended in the warm-up
            return
        assert go.epoch_ns is not None and scenario.rate is not None  # noqa: PT018
        times = schedule(cast("Process", scenario.arrivals), scenario.rate, scenario.cv, scenario.seed)
        for index, offset in shard(times, orders.shard, orders.shards):
            ends = orders.planned is not None and index >= orders.planned
            if ends or (go.horizon_s is not None and offset > go.horizon_s * SECOND):
                return
            due = Ns(go.epoch_ns + offset)
            self._sleep_until(Ns(due - OPEN_AHEAD_MS * MS))
            if self._is_finishing():
                return
            request = self._source.next(None)
            if request is None:
                return
            yield self._hand_out(request, not_before=due, due=due)

    def sent_all(self) -> None:
        """Note that the schedule has ended: what was planned is what was handed out."""
        self._quota = self._handed_out
        if self.done:
            self._on_done()

    def wait_for_release(self) -> None:
        """Wait for the end of the run."""
        self._released.wait()

    def warm_up_request(self, prompt: Prompt) -> Request:
        """Return a request of the warm-up, to be made at once."""
        place = Place(phase=Phase.WARMUP, prompt_row=prompt.row)
        return self._hand_out(self._defaults.request(input_of(prompt), place))

    def drop(self, request: Request, why: str) -> None:
        """Keep the record of a request that was due and is not made."""
        self.keep(dropped(request, why))

    def keep(self, record: RequestRecord) -> None:
        """Take the record of a request that has ended: to disk first, then to whoever looks on.

        Where the disk does not take it, no more requests are handed out.
        """
        try:
            self._write(record)
            self._on_record(record)
        finally:  # whatever failed, others wait for this count
            self.in_flight.pop(record.request_id, None)
            self._unreported.append(record)
            if record.phase is Phase.MEASURE:
                self._kept += 1
                if self.done:
                    self._on_done()

    def give_up(self, request: Request) -> None:
        """Forget a request that has no record, because our code failed: nobody has to wait for it."""
        self.in_flight.pop(request.id, None)

    def report(self, *, last: bool = False) -> Report:
        """Return what has ended since the last report. After the last one nothing is recorded any more."""
        records, self._unreported = self._unreported, []
        self._reports += 1
        return Report(
            run_id=self.orders.run_id,
            worker=self.orders.number,
            sequence=self._reports,
            records=records,
            histograms={name: h.to_wire() for name, h in histograms(records).items()},
            started=self.started,
            in_flight=len(self.in_flight),
            settled_ns=min(self.in_flight.values(), default=now()),
            cpu_share=self._cpu_share(),
            loop_lag=self._health.recent(),
            users=self._count_users(),
            done=self.done,
            instrument=replace(self._health.stop(), worker=self.orders.number) if last else None,
        )

    def finish(self) -> None:
        """Hand out no more requests; those in flight go on."""
        self.finishing = True
        self._went.set()

    def drained(self, timeout: float) -> bool:
        """Wait until nothing is in flight; False if time ran out first."""
        due = time.monotonic() + timeout
        while self.in_flight and time.monotonic() < due:
            gevent.sleep(0.02)
        return not self.in_flight

    def release(self) -> None:
        """Let the users end that wait for the run's end."""
        self.finish()
        self._released.set()

    def put_back(self) -> bool:
        """See that the records are on disk; tell whether a master had taken us for lost, and them away."""
        return self._file.put_back()

    def close(self) -> None:
        """Close the records' file and give the garbage collector back its habits."""
        if self._closed:
            return
        self._closed = True
        self._health.stop()
        self._file.close()
        if self._go is not None:
            gc.set_threshold(*self._gc_thresholds)
            gc.unfreeze()

    def _write(self, record: RequestRecord) -> None:
        try:
            self._file.append(record)
        except OSError as error:
            if not self._disk_is_full:
                self._disk_is_full = True
                self.finish()
                self.on_full_disk(error)

    def _is_finishing(self) -> bool:
        return self.finishing

    def _first_time(self, user: int) -> Ns | None:
        """Wait for a user's turn, before its first request only; return when that may be sent."""
        if user in self._first_at or self._go is None:
            return None
        orders, go = self.orders, self._go
        turn = (user * orders.shards + orders.shard) * _GOLDEN % 1.0
        at = self._first_at[user] = Ns(now() + OPEN_AHEAD_MS * MS + int(turn * go.spread_s * SECOND))
        self._sleep_until(Ns(at - OPEN_AHEAD_MS * MS))
        return at

    def _sleep_until(self, at: Ns) -> None:
        while not self.finishing and (left := at - now()) > 0:
            gevent.sleep(min(left / SECOND, 0.5))

    def _hand_out(self, request: Request, *, not_before: Ns | None = None, due: Ns | None = None) -> Request:
        """Return a source's request with its identity, worker, step and timing; from now on it is in flight."""
        self.started += 1
        measured = request.place.phase is Phase.MEASURE
        self._handed_out += measured
        orders = self.orders
        request = replace(
            request,
            id=f"{orders.run_id}-{orders.number}-{self.started:06d}",
            place=replace(request.place, worker=orders.number, step=None if self._go is None else self._go.step),
            not_before=not_before,
            due=due,
            lazy=request.stream and measured and self._is_lazy(),
        )
        # Sent at the earliest now, or when its time has come: a bound for all that is not known yet.
        self.in_flight[request.id] = max(now(), not_before or Ns(0))
        return request

    def _is_lazy(self) -> bool:
        """Tell whether the next stream is drained lazily.

        Every n-th is not, by number and not by moment: sampling that followed the load would favour quiet moments.
        """
        assert self._go is not None
        share, n = self._go.eager_share, self._handed_out
        return int(n * share) == int((n - 1) * share)

    def _cpu_share(self) -> float | None:
        used, at = time.process_time(), time.monotonic()
        (used_before, at_before), self._cpu = self._cpu, (used, at)
        return (used - used_before) / (at - at_before) if at > at_before else None


def histograms(records: Sequence[RequestRecord]) -> Mapping[str, Histogram]:
    """Return the distributions of the measured requests' latencies, ms."""
    measured = [r for r in records if r.phase is Phase.MEASURE]
    found = {name: Histogram() for name in (*_RATES, "itl_ms")}
    for name, metric in _RATES.items():
        found[name].add([value for r in measured if (value := metric(r)) is not None])
    found["itl_ms"].add(metrics.all_icl_ms(measured))
    return found
