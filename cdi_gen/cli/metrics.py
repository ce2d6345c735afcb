# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen metrics``."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cdi_gen.cli import console
from cdi_gen.cli.host_options import DIRECTORY, TEXT, HostOptions, host_options, locations
from cdi_gen.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from cdi_gen.metrics.catalogue import Selection
    from cdi_gen.metrics.families import Options
    from cdi_gen.metrics.own.schedule import Examinations
    from cdi_gen.metrics.pages import Render
    from cdi_gen.metrics.snapshot import Snapshot

LISTEN = "127.0.0.1:9400"
"""The port of dcgm-exporter; from other hosts only if the administrator says so."""

NAMES = {"old": ("old",), "new": ("new",), "both": ("old", "new")}

EXAMINED, NOTHING = ("specs", "doctor", "device-plugin"), "none"

DEADLINE, DEADLINE_OF_ONCE = 2.0, 30.0
"""The seconds in which NVML and each GPU must answer. Without persistence mode the driver takes
seconds to initialise a GPU: `--once` waits for it, the service has the GPU in its next pass."""
BETWEEN_PASSES = 0.2
"""Seconds. `--once` measures twice, because rates and GPM are what happens between two passes."""

_DURATION = re.compile(r"(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
SHORTEST, LONGEST = 1.0, 3600.0


class Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.3
    """A duration: ``15s``, ``1m30s``, or a number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        text = str(value)
        match = _DURATION.fullmatch(text if text.endswith(("s", "m")) else f"{text}s")
        seconds = float(match[1] or 0) * 60 + float(match[2] or 0) if match else 0.0
        if not SHORTEST <= seconds <= LONGEST:
            self.fail(f"{text!r} is not a duration from 1s to 60m, for example 15s", param, ctx)
        return seconds


class Url(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # as above
    """An address of HTTP or HTTPS."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the address."""
        if not re.match(r"https?://[^/]", str(value)):
            example = "http://127.0.0.1:9401/metrics"
            self.fail(f"{value!r} is not an address of HTTP, for example {example}", param, ctx)
        return str(value)


class Mode(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # as above
    """Permissions of a file in octal digits."""

    name = "mode"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the permissions."""
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"0?[0-7]{3}", str(value)):
            self.fail(f"{value!r} is not a mode in octal digits, for example 0660", param, ctx)
        return int(value, 8)


@click.command("metrics")
@click.option(
    "--listen",
    "addresses",
    multiple=True,
    type=str,  # several addresses in the environment have spaces between them
    metavar="ADDRESS",
    envvar="CDI_GEN_METRICS_LISTEN",
    help="Serve at HOST:PORT, :PORT, [IPV6]:PORT or unix:/PATH; may be given several times.  "
    f"[default: {LISTEN}; nowhere with --textfile]",
)
@click.option(
    "--interval",
    type=Seconds(),
    default="15s",
    show_default=True,
    envvar="CDI_GEN_METRICS_INTERVAL",
    help="Time between two measurements; scrapes get the last one.",
)
@click.option(
    "--names",
    type=click.Choice([*NAMES]),
    default="old",
    show_default=True,
    envvar="CDI_GEN_METRICS_NAMES",
    help="Names of dcgm-exporter's metrics: up to release 4.8 (old), since 4.9 (new), or both.",
)
@click.option(
    "--fields",
    "fields_path",
    type=DIRECTORY,
    metavar="FILE",
    envvar="CDI_GEN_METRICS_FIELDS",
    help="The fields of dcgm-exporter to show, in its CSV format, in place of --names.  "
    "[default: its default fields, and those that dashboards and alerts use]",
)
@click.option(
    "--series-per-container",
    is_flag=True,
    envvar="CDI_GEN_METRICS_SERIES_PER_CONTAINER",
    help="Give dcgm-exporter's metrics once for each container of a GPU, as it does with "
    "KUBERNETES_VIRTUAL_GPUS.",
)
@click.option(
    "--max-containers",
    type=click.IntRange(0, 100_000),
    default=1000,
    show_default=True,
    envvar="CDI_GEN_METRICS_MAX_CONTAINERS",
    help="The largest number of containers with series; the others are counted.",
)
@click.option(
    "--hostname",
    type=TEXT,
    envvar=["CDI_GEN_METRICS_HOSTNAME", "NODE_NAME"],
    help="Value of dcgm-exporter's label for the host; empty: no label.  "
    "[default: the host's name]",
)
@click.option(
    "--web-config",
    type=DIRECTORY,
    metavar="FILE",
    envvar="CDI_GEN_METRICS_WEB_CONFIG",
    help="TLS and passwords: a web configuration file of Prometheus's exporters.  [default: none]",
)
@click.option(
    "--socket-mode",
    type=Mode(),
    default="0660",
    show_default=True,
    envvar="CDI_GEN_METRICS_SOCKET_MODE",
    help="Permissions of the sockets of unix:/PATH.",
)
@click.option(
    "--textfile",
    "textfile_path",
    type=DIRECTORY,
    metavar="FILE",
    envvar="CDI_GEN_METRICS_TEXTFILE",
    help="Write a file for the textfile collector of node_exporter in each interval.  "
    "[default: none]",
)
@click.option(
    "--examine",
    "examined",
    multiple=True,
    type=click.Choice([*EXAMINED, NOTHING]),
    envvar="CDI_GEN_METRICS_EXAMINE",
    help="What else is examined, by processes with low priority: whether the specs are fresh, the "
    "host by cdi-gen doctor, the device plugin; may be given several times.  [default: all]",
)
@click.option(
    "--device-plugin-metrics",
    type=Url(),
    metavar="URL",
    envvar="CDI_GEN_METRICS_DEVICE_PLUGIN",
    help="Where the device plugin of cdi-gen on this host serves its own metrics.  [default: none]",
)
@click.option("--once", is_flag=True, help="Print the metrics, or write the textfile, and end.")
@host_options
def command(
    host: HostOptions,
    /,
    *,
    addresses: tuple[str, ...],
    interval: float,
    names: str,
    fields_path: str | None,
    series_per_container: bool,
    max_containers: int,
    hostname: str | None,
    web_config: str | None,
    socket_mode: int,
    textfile_path: str | None,
    examined: tuple[str, ...],
    device_plugin_metrics: str | None,
    once: bool,
) -> int:
    """Serve metrics of GPUs, and of what each container does with them, for Prometheus.

    The GPUs are measured once in each interval, whatever the number of scrapes. Containers of every
    engine are found from their processes, and no engine is asked.
    """
    from cdi_gen.cli.metrics_serving import Serving, print_once  # noqa: PLC0415
    from cdi_gen.host.nvml_library import nvml_library  # noqa: PLC0415
    from cdi_gen.metrics.collection import Collector  # noqa: PLC0415
    from cdi_gen.metrics.families import Options  # noqa: PLC0415
    from cdi_gen.metrics.own.schedule import Examinations, settings_of  # noqa: PLC0415
    from cdi_gen.metrics.pages import Pages  # noqa: PLC0415
    from cdi_gen.metrics.reports import SnapshotReports  # noqa: PLC0415
    from cdi_gen.metrics.textfile import Textfile  # noqa: PLC0415
    from cdi_gen.refresh.settings import Layout  # noqa: PLC0415
    from cdi_gen.telemetry.telemetry import Telemetry  # noqa: PLC0415

    if once and (_is_given("addresses") or _is_given("web_config")):
        raise UsageError(
            "--listen and --web-config have no effect with --once",
            hint="leave them out, or --once",
            code="CDG-O155",
            subject="--once",
        )
    if fields_path is not None and _is_given("names"):
        raise UsageError(
            "--names has no effect with --fields: the file has the names",
            hint="leave one of them out",
            code="CDG-O155",
            subject="--fields",
        )
    if NOTHING in examined and len(set(examined)) > 1:
        raise UsageError(
            "--examine none does not fit together with another --examine",
            hint="leave one of them out",
            code="CDG-O155",
            subject="--examine",
        )
    options = Options(
        names=NAMES[names],
        selection=None if fields_path is None else _selection(fields_path),
        hostname=os.uname().nodename if hostname is None else hostname,
        per_container=series_per_container,
        max_containers=max_containers,
    )
    textfile = Textfile(textfile_path, console.report) if textfile_path else None
    examinations = Examinations(
        Layout(**host._asdict()),
        settings_of(examined or EXAMINED, device_plugin_metrics or ""),
        console.report,
    )
    pages = Pages(_renderer(options, examinations), interval)
    where = locations(host, transports=False)
    with (
        Telemetry(
            lambda: nvml_library(where),
            deadline=DEADLINE_OF_ONCE if once else DEADLINE,
            groups=options.measured_groups(),
            host_root=where.host_root,
        ) as telemetry,
        examinations,
    ):
        collector = Collector(where, telemetry)
        if once:
            examinations.examine()
            if telemetry.read().gpus:
                time.sleep(BETWEEN_PASSES)
            snapshot = collector.collect()
            SnapshotReports(console.report).note(snapshot)
            pages.publish(snapshot)
            print_once(pages, textfile)
            return ExitCode.OK
        serving = Serving(collector.collect, pages, interval, textfile)
        if addresses or textfile is None:
            serving.listen(addresses or (LISTEN,), web_config or "", socket_mode)
        examinations.start()
        serving.run()
    return ExitCode.OK


def _is_given(parameter: str) -> bool:
    source = click.get_current_context().get_parameter_source(parameter)
    return source is ParameterSource.COMMANDLINE


def _selection(path: str) -> Selection:
    """Return the fields that a file chooses, and warn of those that it chooses in vain."""
    from cdi_gen.metrics.fields_file import read_fields_file  # noqa: PLC0415

    file = read_fields_file(path)
    for finding in file.findings:
        console.report(finding)
    return file.selection


def _renderer(options: Options, examinations: Examinations) -> Render:
    """Return what makes the text of a snapshot."""
    from cdi_gen.metrics.events import RecentEvents  # noqa: PLC0415
    from cdi_gen.metrics.exposition import render  # noqa: PLC0415
    from cdi_gen.metrics.families import families  # noqa: PLC0415
    from cdi_gen.metrics.own.families import families as own_families  # noqa: PLC0415

    recent = RecentEvents()

    def text(snapshot: Snapshot | None, openmetrics: bool) -> bytes:
        of_snapshot = (
            families(snapshot, options, recent.update(snapshot.reading)) if snapshot else ()
        )
        of_examinations = own_families(examinations.state(), time.time())
        return render((*of_snapshot, *of_examinations), openmetrics=openmetrics)

    return text
