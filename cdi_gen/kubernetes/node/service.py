# SPDX-License-Identifier: Apache-2.0
"""Runs a service beside the set-up of a node: the NRI plugin."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

SERVICE_SECONDS = 5.0
"""The time that a service has to end."""


class Service(Protocol):
    """Something that runs while the node is set up: the NRI plugin."""

    def run(self) -> None:
        """Run until `stop`."""

    def stop(self) -> None:
        """End `run` soon."""


@contextmanager
def served(service: Service | None, stopped: threading.Event) -> Iterator[None]:
    """Run a service in a thread until the end of the block.

    Args:
        service: the service; None: there is none.
        stopped: is set when the service ends by itself.

    Raises:
        Exception: the error of the service.
    """
    if service is None:
        yield
        return
    errors: list[Exception] = []

    def run() -> None:
        try:
            service.run()
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
        finally:
            stopped.set()

    thread = threading.Thread(target=run, name="service", daemon=True)
    thread.start()
    try:
        yield
    finally:
        service.stop()
        thread.join(SERVICE_SECONDS)
    if errors:
        raise errors[0]
