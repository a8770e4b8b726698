"""Whether the tasks of the locustfile did what their author wanted: none raised an exception."""

from loadgen.measure.check import Finding, Status, check
from loadgen.measure.checks.effect import NOT_KNOWN, main_figure
from loadgen.measure.evidence import Evidence
from loadgen.measure.limits import TASK_ERRORS_LIMIT
from loadgen.printable import escaped, percent

_SHOWN = 120
"""Characters of an exception that are shown."""


@check(id="user-code", title="user code", limit=f"at most {percent(TASK_ERRORS_LIMIT)} of tasks raise")
def user_code(e: Evidence) -> Finding:
    """Check how many tasks of the locustfile raised an exception."""
    found = e.user_code
    if found is None:
        return Finding(Status.NOT_CHECKED)
    limit = f"at most {percent(TASK_ERRORS_LIMIT)} of tasks raise"
    if not found.errors:
        return Finding(Status.OK, f"{found.tasks} tasks, none raised an exception", limit)
    value = f"{found.errors} of {found.tasks} tasks raised an exception"
    if found.first_error is not None:
        value += f", the first: {_shortened(escaped(found.first_error))}"
    status = Status.INVALID if found.errors > TASK_ERRORS_LIMIT * found.tasks else Status.WARN
    effect = f"A task that raised may have sent too few requests: {main_figure(e)} may be another, {NOT_KNOWN}."
    return Finding(status, value, limit, "The log has the traceback: correct the locustfile.", effect)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
