# SPDX-License-Identifier: Apache-2.0
"""Tells whether the specs that engines read describe this host.

If nothing has changed since the last refresh, attributes of files show it. Otherwise the specs, of
any program, are compared with the facts of the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen.errors import ExitCode
from cdi_gen.refresh import freshness
from cdi_gen.refresh import record as records
from cdi_gen.refresh.record import Record
from cdi_gen.refresh.settings import Layout, Request

if TYPE_CHECKING:
    from cdi_base.findings import Finding


class Report(NamedTuple):
    """The result of a check."""

    differences: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    """What is no difference: files that others override, devices that were left out."""
    has_driver: bool = True
    has_specs: bool = True

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command."""
        if self.differences:
            return ExitCode.STALE
        return ExitCode.OK if self.has_driver or self.has_specs else ExitCode.NO_DRIVER


def check(
    layout: Layout,
    directories: Sequence[str] = (),
    state_directory: str = records.DIRECTORY,
) -> Report:
    """Compare the installed specs with the host.

    Args:
        layout: the layout of the host.
        directories: the spec directories; empty: those of engines, and that of the last refresh.
        state_directory: the directory of the record of the last refresh.
    """
    last = records.load(state_directory)
    request = Request.of(last.request) if last else None
    if last is None or request is None or request.layout != layout or directories:
        return _compare(layout, directories or _directories(request), None, None)
    is_host_unchanged = freshness.is_host_unchanged(last, layout.prefix)
    are_files_unchanged = freshness.are_files_unchanged(last)
    is_host_unchanged = is_host_unchanged and freshness.is_tree_unchanged(last)
    if (
        last.is_clean
        and is_host_unchanged
        and are_files_unchanged
        and freshness.are_directories_unchanged(last)
    ):
        return Report(notes=_left_out(last))
    return _compare(
        layout, _directories(request), last, request, is_host_unchanged=is_host_unchanged
    )


def _directories(request: Request | None) -> tuple[str, ...]:
    """Return the directories that engines read, and that of the last refresh."""
    from cdi_gen.refresh import installed  # noqa: PLC0415 - not needed if nothing has changed

    own = request.settings.output_directory if request else SPEC_DIRECTORIES[-1]
    return installed.with_own(SPEC_DIRECTORIES, own)


def _compare(
    layout: Layout,
    directories: Sequence[str],
    last: Record | None,
    request: Request | None,
    *,
    is_host_unchanged: bool = False,
) -> Report:
    from cdi_base.findings import Finding  # noqa: PLC0415 - not needed if nothing has changed
    from cdi_gen.refresh import installed  # noqa: PLC0415 - as above

    found = installed.compare(directories, layout.host_root, last.left_out if last else ())
    specs = found.specs
    differences = [*found.differences]
    if last is not None and request is not None:
        from cdi_gen.refresh import spec_directory  # noqa: PLC0415 - as above

        differences += spec_directory.changed_files(last)
        if not is_host_unchanged and found.driver_version is not None:
            from cdi_gen.refresh import own_specs  # noqa: PLC0415 - as above

            differences += own_specs.differences(last, request.settings, layout)
    notes = [
        Finding(
            "CDG-F104",
            "info",
            f"{later} has priority over {path}, which defines the same devices",
            subject=path,
        )
        for path, later in specs.shadowed
    ]
    notes += [
        Finding(
            "CDG-F103",
            "warning",
            f"engines ignore {path}",
            subject=path,
            fix=f"see the reasons with: cdi-gen validate {path}",
        )
        for path in specs.ignored
    ]
    return Report(
        tuple(dict.fromkeys(differences)),
        (*notes, *(_left_out(last) if last else ())),
        has_driver=found.driver_version is not None,
        has_specs=bool(specs.specs or specs.conflicts),
    )


def _left_out(last: Record) -> tuple[Finding, ...]:
    if not last.left_out:
        return ()
    from cdi_base.findings import Finding  # noqa: PLC0415 - most hosts have none

    return tuple(
        Finding("CDG-V112", "warning", f"left out by the last refresh: {device}", subject=device)
        for device in last.left_out
    )
