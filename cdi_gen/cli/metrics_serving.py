# SPDX-License-Identifier: Apache-2.0
"""Serves the metrics of ``cdi-gen metrics`` until a signal ends it, or prints them once."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cdi_base.findings import Finding
from cdi_gen.cli import console
from cdi_gen.cli.output import print_data
from cdi_gen.errors import CdiGenError
from cdi_gen.metrics.loop import Loop
from cdi_gen.metrics.pages import Form, Pages
from cdi_gen.metrics.reports import SnapshotReports
from cdi_gen.metrics.service import Service
from cdi_gen.metrics.snapshot import Snapshot
from cdi_gen.metrics.textfile import Textfile
from cdi_gen.service_manager import ServiceManager

if TYPE_CHECKING:
    from cdi_gen.metrics.web.server import Server


class Serving:
    """What ``cdi-gen metrics`` runs without ``--once``.

    Args:
        collect: takes a snapshot.
        pages: keeps its text.
        interval: seconds between two snapshots.
        textfile: gets the text; None: no file is written.
    """

    def __init__(
        self,
        collect: Callable[[], Snapshot],
        pages: Pages,
        interval: float,
        textfile: Textfile | None,
    ) -> None:
        self._pages = pages
        self._textfile = textfile
        self._server: Server | None = None
        self._reports = SnapshotReports(console.report)
        self._loop = Loop(collect, self._publish, interval, console.report)
        self._status = f"writing a textfile every {interval:g} s" if textfile else ""

    def listen(self, addresses: Sequence[str], web_config: str, socket_mode: int) -> None:
        """Listen at addresses; they are served by `run`.

        Raises:
            CdiGenError: the extra is not installed, an address cannot be used, or the web
                configuration is not valid.
        """
        require_packages()
        from cdi_gen.metrics.routes import Routes  # noqa: PLC0415
        from cdi_gen.metrics.web.listeners import listen, parse  # noqa: PLC0415
        from cdi_gen.metrics.web.server import Server  # noqa: PLC0415
        from cdi_gen.metrics.web.web_config import WebConfigFile  # noqa: PLC0415

        parsed = [parse(address) for address in addresses]
        configuration = WebConfigFile(web_config)
        listeners = [listen(address, socket_mode) for address in parsed]
        self._server = Server(listeners, configuration, Routes(self._pages).answer, console.report)
        scheme = "HTTPS" if configuration.has_tls else "HTTP"
        names = ", ".join(str(listener.address) for listener in listeners)
        self._status = f"serving metrics at {names} ({scheme})"

    def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        service = Service(
            self._loop, self._pages, self._server, self._textfile, ServiceManager(), self._reload
        )
        gc.enable()  # the main function disables it, for commands that take 50 ms
        service.handle_signals()
        console.report(Finding("CDG-O160", "info", self._status))
        service.run(self._status)

    def _publish(self, snapshot: Snapshot) -> None:
        self._reports.note(snapshot)
        self._pages.publish(snapshot)
        if self._textfile is not None:
            self._textfile.update(self._pages)

    def _reload(self) -> None:
        if self._server is not None:
            self._server.reload()


def print_once(pages: Pages, textfile: Textfile | None) -> None:
    """Print the text, or write the textfile."""
    if textfile is not None:
        textfile.write(pages)
    else:
        print_data(b"".join(pages.text(Form()) or ()).decode())


def require_packages() -> None:
    """Check that the modules of the extra ``metrics`` are installed.

    Raises:
        CdiGenError: a module is missing.
    """
    missing = next((name for name in ("h11", "bcrypt") if find_spec(name) is None), None)
    if missing:
        raise CdiGenError(
            f"the Python module {missing} is not installed, so metrics cannot be served",
            hint="after `make install`: make install EXTRAS=metrics; with pip: cdi-gen[metrics]; "
            "with a distribution's packages: python3-h11 and python3-bcrypt. --textfile and --once "
            "need neither",
            code="CDG-O157",
        )
