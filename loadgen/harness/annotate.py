"""Marks a run that has ended in Grafana, by its HTTP API. What fails there is told, and touches nothing of the run."""

import json
import logging
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0


class _NoRedirects(HTTPRedirectHandler):
    """The token is for the address that was named."""

    def redirect_request(self, *_: object) -> None:
        """Take a redirection for the error that it is."""


def annotate(base: str, token: str, annotations: Sequence[Mapping[str, Any]]) -> None:
    """Post annotations one after another; the first that fails is the last."""
    opener = build_opener(_NoRedirects)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "User-Agent": "loadgen"}
    for annotation in annotations:
        body = json.dumps(annotation).encode()
        request = Request(f"{base.rstrip('/')}/api/annotations", body, headers)  # noqa: S310 --grafana is http or https
        try:
            with opener.open(request, timeout=TIMEOUT_S):
                pass
        except HTTPError as error:
            with error:  # its reason may hold anything: it is not repeated
                hint = "; GRAFANA_TOKEN must be that of a service account" if error.code in {401, 403} else ""
                _warn(f"it answers {error.code}{hint}")
            return
        except (OSError, HTTPException, ValueError) as error:
            _warn(str(getattr(error, "reason", None) or error or type(error).__name__))
            return


def _warn(why: str) -> None:
    logger.warning("Grafana has no annotations of this run: %s. The run is complete.", why)
