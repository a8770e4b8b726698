"""The one exception that is a message to the user."""


class UsageError(Exception):
    """A mistake of the user's: the text names the flag or file and the way out. Printed alone, exit status 2."""
