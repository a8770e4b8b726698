"""What the user classes of a locustfile ask for: the load model, the server, the model, limits.

Only classes that are derived from ours count; an ``HttpUser`` next to them makes its own load.
"""

import sys
import traceback
from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from locust import LoadTestShape, User

from loadgen.errors import OptionError
from loadgen.run.load.closed_loop import ClosedLoop
from loadgen.run.load.model import LoadModel
from loadgen.run.load.stages import Stages
from loadgen.scenario import flag
from loadgen.workload.defaults import UserClass

if TYPE_CHECKING:
    from loadgen.harness.users import RunUser

_SAME_FOR_ALL = ("host", "model", "dataset")
"""Attributes that all classes share: a run measures one endpoint, with one sample."""

_FIELDS_OF_RUN = {"model", "messages", "prompt", "stream", "stream_options", "n", "max_tokens", "temperature"}
"""Fields of a body that are set by an attribute or an option."""


def is_ours(user_class: type[User]) -> bool:
    """Whether the users of a class make requests of the run."""
    return hasattr(user_class, "load_model")


def ours(user_classes: Iterable[type[User]]) -> "list[type[RunUser]]":
    """Return the classes whose users make requests of the run."""
    return [user_class for user_class in user_classes if is_ours(user_class)]  # type: ignore[misc]


def load_model_of(user_classes: Iterable[type[User]], shape: LoadTestShape | None = None) -> type[LoadModel]:
    """Return the load model of the classes; with a LoadTestShape a closed loop is measured in stages.

    Raises OptionError if the classes have several, or one that sets the number of users itself besides a shape.
    """
    classes = ours(user_classes)
    models = {user_class.load_model for user_class in classes}
    if len(models) > 1:
        named = ", ".join(f"{c.__name__} ({c.load_model.title})" for c in classes)
        raise OptionError(
            f"the user classes apply different kinds of load: {named}. Name those of one kind on the command line, as "
            f"in: locust -f FILE {classes[0].__name__}."
        )
    model = models.pop() if models else ClosedLoop
    if shape is None:
        return model
    if model.user_option is not None:
        raise OptionError(
            f"the LoadTestShape {type(shape).__name__} and {model.user_option} both set the number of users: leave the "
            "shape out, or derive the users from LLMUser."
        )
    return Stages


def possible_load_models(user_classes: Iterable[type[User]], *, has_shapes: bool) -> set[type[LoadModel]]:
    """Return the load models of all classes that may be chosen, and of shapes where there are any."""
    models = {user_class.load_model for user_class in ours(user_classes)} or {ClosedLoop}
    return models | {Stages} if has_shapes and ClosedLoop in models else models


def check_classes(user_classes: Iterable[type[User]]) -> None:
    """Raise OptionError for attributes that a run cannot honour."""
    classes = ours(user_classes)
    for name in _SAME_FOR_ALL:
        values = {c.__name__: getattr(c, name, None) for c in classes if getattr(c, name, None)}
        if len(set(values.values())) > 1:
            named = ", ".join(f"{of}: {value}" for of, value in values.items())
            raise OptionError(
                f"the user classes name several values of '{name}' ({named}), but a run measures one endpoint with one "
                f"sample. Start one run for each, as in: locust -f FILE {next(iter(values))}."
            )
    for user_class in classes:
        _check_attributes(user_class)


def _check_attributes(user_class: "type[RunUser]") -> None:
    name = user_class.__name__
    if not user_class.tasks:
        raise OptionError(f"{name} has no tasks, or --tags and --exclude-tags leave none: mark a method with @task.")
    limit, temperature = getattr(user_class, "max_tokens", None), getattr(user_class, "temperature", None)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise OptionError(f"{name}.max_tokens must be a whole number of at least 1, got {limit!r}.")
    if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature < float("inf")):
        raise OptionError(f"{name}.temperature must be a number of at least 0, got {temperature!r}.")
    body = getattr(user_class, "extra_body", None) or {}
    if not isinstance(body, dict) or (fixed := sorted(_FIELDS_OF_RUN & set(body))):
        why = f"has {', '.join(fixed)}, which are set elsewhere" if isinstance(body, dict) else "is not a dict"
        raise OptionError(f"{name}.extra_body {why}; it holds further fields of the request's JSON body.")
    try:
        msgspec.json.encode(body)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name}.extra_body cannot be sent as JSON: {error}.") from None


def is_from_classes(error: BaseException, user_classes: Iterable[type[User]]) -> bool:
    """Whether code in a file of the classes took part in an error."""
    files = {getattr(sys.modules.get(c.__module__), "__file__", None) for c in user_classes}
    return any(frame.filename in files for frame in traceback.extract_tb(error.__traceback__))


def host_of_users(user_classes: Iterable[type[User]]) -> str | None:
    """Return the ``host`` that the classes give their users, None where they give none; all give the same."""
    return next((c.host for c in ours(user_classes) if c.host), None)


def apply_to_options(options: Namespace, user_classes: Iterable[type[User]]) -> None:
    """Put attributes of the classes in place of options that were not given.

    Where classes differ in ``max_tokens`` or ``temperature``, the option has the largest value: each user asks by its
    own class.
    """
    for name in ("model", "dataset", "max_tokens", "temperature"):
        of_classes = [getattr(c, name, None) for c in ours(user_classes)]
        if any(value is not None for value in of_classes) and not was_given(options, name):
            by_default = getattr(options, name)
            values = [by_default if value is None else value for value in of_classes]
            setattr(options, name, max(value for value in values if value is not None))


def class_defaults(
    options: Namespace, user_classes: Iterable[type[User]], given: Sequence[str]
) -> dict[str, UserClass]:
    """Return what each class asks for; options of the command line, and of ``given`` (by a form), win."""

    def value_of(user_class: "type[RunUser]", name: str) -> Any:  # noqa: ANN401 the attribute's type
        return None if was_given(options, name) or name in given else getattr(user_class, name, None)

    return {
        c.__name__: UserClass(
            max_tokens=value_of(c, "max_tokens"),
            temperature=value_of(c, "temperature"),
            extra_body=dict(getattr(c, "extra_body", None) or {}),
        )
        for c in ours(user_classes)
    }


def was_given(options: Namespace, name: str) -> bool:
    """Whether an option was given: on the command line, in the environment or in a configuration file."""
    return flag(name) in getattr(options, "given_options", ())
