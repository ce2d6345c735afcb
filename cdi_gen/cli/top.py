# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen top``."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cdi_gen.cli import console
from cdi_gen.cli.host_options import TEXT, HostOptions, host_options, locations
from cdi_gen.cli.output import print_data
from cdi_gen.errors import CdiGenError, ExitCode, UsageError

if TYPE_CHECKING:
    from cdi_gen.top.glyphs import Glyphs
    from cdi_gen.top.sample import Sample
    from cdi_gen.top.view import View

ORDERS = ("utilization", "memory", "gpu", "name", "engine", "processes")
SHORTEST, LONGEST = 0.2, 3600.0
DEADLINE = 2.0
"""Seconds in which a GPU must answer."""
WIDTH = 120
"""Columns of output that is not for a terminal, if COLUMNS does not say."""


@click.command("top")
@click.option(
    "-n",
    "--interval",
    type=click.FloatRange(SHORTEST, LONGEST),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two measurements.",
)
@click.option(
    "--sort",
    "order",
    type=click.Choice(ORDERS),
    default="utilization",
    show_default=True,
    help="Order of the containers.",
)
@click.option(
    "--filter",
    "words",
    type=TEXT,
    default="",
    metavar="WORDS",
    help="Show only containers whose engine, name, id, image, pod, owner or commands have all of "
    "these words.  [default: all containers]",
)
@click.option("--once", is_flag=True, help="Print the tables once, and end.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the output; json prints all that is known once, and ends.",
)
@click.option("-C", "--no-color", is_flag=True, help="Use no colours, as with NO_COLOR.")
@click.option(
    "--ascii/--unicode",
    "is_ascii",
    default=None,
    help="Draw with these characters.  [default: what the locale can show]",
)
@host_options
def command(
    host: HostOptions,
    /,
    *,
    interval: float,
    order: str,
    words: str,
    once: bool,
    form: str,
    no_color: bool,
    is_ascii: bool | None,
) -> int:
    """Show GPUs, and what each container does with them, in a terminal.

    Containers of every engine are found from their processes, and no engine is asked. Without root,
    only the containers of the caller are seen. Press ? for the keys.
    """
    from cdi_gen.top.view import Order, View  # noqa: PLC0415

    is_once = once or form == "json"
    if not is_once:
        _require_terminal()
    view = View(order=Order(order), words=words, interval=interval)
    glyphs = _glyphs(is_ascii)
    name = _host_name(host.host_root)
    with _samples(host, has_all=form == "json") as take:
        if is_once:
            return _print_once(take, view, glyphs, form, name)
        has_colours = not (no_color or os.environ.get("NO_COLOR"))
        number = _show(take, view, glyphs, name, has_colours=has_colours)
    if number:  # end by the signal, which the caller waits for
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return ExitCode.OK


def _require_terminal() -> None:
    for stream, name in ((sys.stdin, "standard input"), (sys.stdout, "standard output")):
        if not stream.isatty():
            raise UsageError(
                f"{name} is not a terminal",
                hint="print the tables once with: cdi-gen top --once",
                code="CDG-O300",
            )


def _host_name(host_root: str) -> str:
    """Return the name of the host, of which this process may be in a container."""
    if host_root.rstrip("/"):
        from cdi_base import files  # noqa: PLC0415

        try:
            return os.fsdecode(files.read(f"{host_root}/etc/hostname", 256)).strip()
        except OSError:
            return ""
    return os.uname().nodename


def _glyphs(is_ascii: bool | None) -> Glyphs:
    import locale  # noqa: PLC0415

    from cdi_gen.top import glyphs  # noqa: PLC0415

    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:  # a locale that is not installed: the terminal's encoding is not known
        return glyphs.UNICODE if is_ascii is False else glyphs.ASCII
    if is_ascii is not None:
        return glyphs.ASCII if is_ascii else glyphs.UNICODE
    return glyphs.of_locale(os.environ, locale.getpreferredencoding(do_setlocale=False))


@contextmanager
def _samples(host: HostOptions, *, has_all: bool) -> Iterator[Callable[[], Sample]]:
    """Give a function that takes a sample of the host: all values, or those of the tables."""
    from cdi_gen.host.nvml_library import nvml_library  # noqa: PLC0415
    from cdi_gen.metrics.collection import Collector  # noqa: PLC0415
    from cdi_gen.telemetry import groups  # noqa: PLC0415
    from cdi_gen.telemetry.telemetry import Telemetry  # noqa: PLC0415
    from cdi_gen.top.commands import Commands  # noqa: PLC0415
    from cdi_gen.top.sample import SHOWN, Sample  # noqa: PLC0415

    gc.enable()  # the main function disables it, for commands that take 50 ms
    where = locations(host, transports=False)
    commands = Commands(where.host_root)
    telemetry = Telemetry(
        lambda: nvml_library(where),
        deadline=DEADLINE,
        groups=groups.ALL if has_all else SHOWN,
        host_root=where.host_root,
    )
    collector = Collector(where, telemetry)

    def take() -> Sample:
        snapshot = collector.collect()
        return Sample(snapshot=snapshot, commands=commands.of(snapshot))

    with telemetry:
        yield take


def _print_once(
    take: Callable[[], Sample], view: View, glyphs: Glyphs, form: str, name: str
) -> int:
    """Print the second of two samples: some rates are known only from the second one on."""
    take()
    time.sleep(view.interval)
    sample = take()
    reading = sample.snapshot.reading
    if form == "json":
        import json  # noqa: PLC0415

        from cdi_gen.top.document import document  # noqa: PLC0415

        print_data(json.dumps(document(sample.snapshot), indent=2) + "\n")
    else:
        print_data(_text(sample, view, glyphs, name))
    if reading.error:
        console.warning(f"the GPUs cannot be measured: {reading.error}", code="CDG-O302")
        return ExitCode.NO_DRIVER
    for text in sample.snapshot.unseen:
        hint = "" if os.geteuid() == 0 else "run: sudo cdi-gen top"
        console.warning(f"not seen: {text}", code="CDG-Y202", hint=hint)
    has_fault = any(gpu.fault for gpu in reading.gpus)
    return ExitCode.PARTIAL if has_fault or sample.snapshot.unseen else ExitCode.OK


def _text(sample: Sample, view: View, glyphs: Glyphs, name: str) -> str:
    """Return the tables, as wide as the terminal is."""
    import shutil  # noqa: PLC0415

    from cdi_gen.top.frame import State, whole  # noqa: PLC0415
    from cdi_gen.top.history import History  # noqa: PLC0415
    from cdi_gen.top.lines import plain  # noqa: PLC0415
    from cdi_gen.top.occupants import occupants  # noqa: PLC0415

    state = State(
        sample=sample,
        occupants=occupants(sample),
        history=History(),
        view=view,
        host=name,
    )
    columns = shutil.get_terminal_size((WIDTH, 0)).columns
    return "".join(f"{plain(line).rstrip()}\n" for line in whole(state, columns, glyphs))


def _show(
    take: Callable[[], Sample], view: View, glyphs: Glyphs, name: str, *, has_colours: bool
) -> int:
    """Show samples until the user quits; return the signal that ended it, or 0."""
    from cdi_gen.top.loop import Loop  # noqa: PLC0415
    from cdi_gen.top.sampler import Sampler  # noqa: PLC0415

    try:
        from cdi_gen.top.terminal import Terminal, UnknownTerminalError  # noqa: PLC0415
    except ImportError as error:
        raise CdiGenError(
            f"this Python cannot use terminals: {error}",
            hint="install Python's module curses, or use: cdi-gen top --once",
            code="CDG-O303",
        ) from error
    terminal = Terminal(has_colours=has_colours)
    try:
        with terminal:
            sampler = Sampler(take, view.interval, terminal.wake)
            try:
                is_root = os.geteuid() == 0
                Loop(terminal, sampler, view, glyphs, host=name, is_root=is_root).run()
            finally:
                sampler.close(patience=DEADLINE)
    except UnknownTerminalError as error:
        kind = os.environ.get("TERM", "")
        raise CdiGenError(
            f"the terminal's type {kind!r} (TERM) cannot be used here: {error}",
            hint="try: TERM=xterm-256color cdi-gen top; or use: cdi-gen top --once",
            code="CDG-O301",
            subject=kind,
        ) from error
    return terminal.signal
