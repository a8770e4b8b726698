"""The start form of the web UI: it offers the options that have an effect with the locustfile, each with its help."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from locust.web import WebUI

from loadgen.harness import locust_patches
from loadgen.harness.session import Session
from loadgen.run.load.catalogue import LOAD_MODELS
from loadgen.run.load.model import LoadModel, applies
from loadgen.scenario import Scenario

Offer = dict[str, Any]
"""What Locust's page gets to know of an option: value, help, kind."""


def add(web_ui: WebUI, session: Session) -> None:
    """Let the form of a web UI offer what applies."""

    def fit(arguments: dict[str, Any]) -> None:
        arguments["extra_options"] = offered(arguments["extra_options"], session.load_models_of_form)

    locust_patches.after_template_args(web_ui, fit)


def offered(options: Mapping[str, Offer], load_models: Collection[type[LoadModel]]) -> dict[str, Offer]:
    """Return the options that one of the load models uses; those of the locustfile itself all stay.

    A field shows the value of its option, so that its help need not add the default, as ``--help`` does.
    """
    helps = {f.name: f.metadata["help"] for f in fields(Scenario)}
    return {
        name: option | ({"help_text": helps[name]} if name in helps else {})
        for name, option in options.items()
        if name not in helps or any(applies(name, model, LOAD_MODELS) for model in load_models)
    }
