"""How many files the system lets a process and its children open: each request in flight has a connection."""

import resource


def allow_open_files(wanted: int) -> int:
    """Raise the limit of open files to ``wanted``, as far as the system allows; return how many may be open.

    Returns ``wanted`` if the system has no limit. A limit above ``wanted`` is not changed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)
