"""The limits of all checks, each with its reason."""

FAILED_SHARE_LIMIT = 0.05
"""Above it the mean over those that succeeded describes the survivors, not the engine."""

TASK_ERRORS_LIMIT = 0.05
"""Share of the tasks of a locustfile that may raise an exception. A task that raises may have sent only some of its
requests: above the limit that changes the load by as much as failures may."""

LOOP_LAG_LIMIT_MS = 5.0
"""p99 of the loop's lateness. Half of a 10 ms inter-token time: later, and tokens are read two at a time."""

CPU_SHARE_LIMIT = 0.8
"""Of one core, which is all that one process can use: beyond it queues in the client grow fast, and with them what is
known of arrivals only as an interval."""

LAG_SHARE_LIMIT = 0.1
"""Lateness as a share of the median time to the first token, or of the round trip without a stream, above which times
taken in user space are the client's, not the server's. Times taken by the kernel do not depend on it."""

UNCERTAINTY_LIMIT = 0.01
"""Mean width of what is not known of first-token and end times, as a share of them: the resolution of the figures."""

SHARED_READS_LIMIT = 0.05
"""Share of chunks that were read together with a later one, whose gap then reads 0."""

ENOUGH_REQUESTS = 30
"""Fewest complete answers for an interval of a mean: below, the bootstrap's coverage falls visibly short of 95 %."""

SHORTEST_WINDOW = 3
"""Minimum window length, in mean round trips. Shorter windows report no throughput."""

ROUND_TRIPS = 20
"""Minimum window length for an interval of throughput, in mean service times: first token to end, or the round trip
without a stream. Coverage of nominal 95 % intervals was 82 % at 10 round trips, 84 to 93 % at 20, 94 to 95 % at 50."""

CHARACTERS_PER_TOKEN = (0.5, 20.0)
"""Means outside it are no tokenizer's: English has about 4, Chinese with byte fallback about 1."""

TOKENS_UNDERCOUNT = 0.1
"""More tokens in the text than were counted, as a share. A tokenizer cuts a text into as many tokens as it was made of,
or into fewer; into more only where it was no text: 1 to 5 in 100 of random weights' words."""

ONE_PIECE_SHARE = 0.05
"""Share of the answers that may come in one piece though streams were asked for: those of a token or two do."""

BURST_CHUNKS = 8
"""Tokens in one event or read from which on they were collected on the way: speculative decoding yields fewer."""

TOKENS_A_CHUNK, CHARACTERS_SHOWN = 1.5, 0.8
"""More tokens a chunk are ordinary where each has its text: an engine may send several at a time. With less text than
the least that tokens of any language have, they were counted and not shown."""

AT_OWN_LIMIT = 0.9
"""An answer that ends by ``length`` below this share of --max-tokens was cut by a limit of the server's."""

ATTAINMENT = 0.95
"""Share of the requests that have to keep the limits of --slo for them to be kept: as in AIPerf's recipe; DistServe
took 0.9."""

LITTLE_WARN, LITTLE_INVALID = 0.02, 0.05
"""Mean requests in flight against users: what is missing was spent starting, pausing or draining, not waiting for the
engine. A user's own pause between two requests is some 0.5 ms, 2 % of a round trip of 25 ms."""

OWN_PAUSE_MS = 1.0
"""Time between two requests that is always the client's own: what Locust needs from one task to the next, and by how
much a short pause of gevent is too long."""

THINKING_PAUSES = 0.1
"""Of a user who thinks more of the pauses are longer than the loop's lateness; a busy machine makes a few so long."""

THINKING_SHARE, THINKING_USERS = 0.01, 0.5
"""A load has think time if on average 1 % of its users think, or half a user. Less does not show in Little's law, which
is checked to 2 %. Half a user of many does show: they are hardly ever all in flight at once."""

SCHEDULE_EDGE_NS = 100_000_000
"""Of a run that is ended from outside, so much of the end of its schedule is not looked at."""

LAG_LIMIT_MS = 1.0
LAG_WARN, LAG_INVALID = 0.01, 0.1
"""p99 of how late requests were sent: up to 1 ms or 1 % of the median TTFT it does not show; above a tenth the latency
is the client's."""

DROPPED_LIMIT = 0.05
"""Share of the schedule that may be dropped before the offered load is another than was asked for: the limit of
failures, which leave as much load out."""

TOKENS_WARN, TOKENS_INVALID = 0.01, 0.05
"""Our count of output tokens against the engine's own. 1 % is one end-of-sequence token in a hundred, counted by one
side only; 5 % is more than most differences between engines that are measured with them."""

CACHE_LIMIT = 0.02
"""Share of prompt tokens that may come from the engine's cache: shared templates and system prompts are that much."""

CLOCKS_LIMIT_MS = 1.0
"""Uncertainty of a worker's clock, above which what counts requests of several hosts is known to that only."""
