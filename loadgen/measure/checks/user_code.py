"""Whether the tasks of the locustfile did what their author wanted: none raised an exception."""

from loadgen.measure.evidence import Check, Evidence, Status
from loadgen.measure.limits import TASK_ERRORS_LIMIT
from loadgen.printable import escaped

_SHOWN = 120
"""Characters of an exception that are shown."""


def user_code(e: Evidence) -> Check:
    """Check how many tasks of the locustfile raised an exception."""
    name = "user code"
    found = e.user_code
    if found is None:
        return Check(name, Status.NOT_CHECKED)
    limit = f"at most {TASK_ERRORS_LIMIT:.0%} of tasks raise"
    if not found.errors:
        return Check(name, Status.OK, f"{found.tasks} tasks, none raised an exception", limit)
    value = f"{found.errors} of {found.tasks} tasks raised an exception"
    if found.first_error is not None:
        value += f", the first: {_shortened(escaped(found.first_error))}"
    status = Status.INVALID if found.errors > TASK_ERRORS_LIMIT * found.tasks else Status.WARN
    return Check(name, status, value, limit, "The log has the traceback: correct the locustfile.")


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
