# SPDX-License-Identifier: Apache-2.0
"""Compares the specs that refresh wrote with those that it would write now.

Rules find what a spec has and the host lacks (`staleness`). Here a spec is generated again, which
also shows what the host has and the spec lacks. NVML is not asked: what only NVML knows, UUIDs and
MIG devices, is left to the rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cdi_base.findings import Finding
from cdi_gen import tree
from cdi_gen.cdi.model import Device, Spec
from cdi_gen.diff import comparison, contents
from cdi_gen.errors import CdiGenError, NoDriverError
from cdi_gen.generate import driver_tree, modes
from cdi_gen.generate.device_nodes import NO_EDITS
from cdi_gen.generate.options import NONE
from cdi_gen.host import gather
from cdi_gen.inventory import Inventory
from cdi_gen.refresh import agreement, spec_directory, specs
from cdi_gen.refresh.record import Record
from cdi_gen.refresh.settings import TREE, Layout, Settings


def differences(record: Record, settings: Settings, layout: Layout) -> Iterator[Finding]:
    """Yield a finding for each difference between our files and those of this host.

    An unusable driver is a finding too, because specs of it exist.
    """
    try:
        inventory = gather(layout.where(nvml=False))
        reason = agreement.disagreement(inventory, record, layout.prefix)
        if reason:
            yield _finding("CDG-V001", "the driver", reason)
            return
        options = specs.options_of("auto", settings)
        if settings.form == TREE and not tree.is_current(driver_tree.layout(inventory, options)):
            message = "the tree that containers get is not that of this driver"
            yield _finding("CDG-V113", driver_tree.CURRENT, message)
        for mode in dict.fromkeys(settings.modes):
            yield from _of_mode(mode, settings, inventory, record)
    except NoDriverError:
        return  # the rules say so for each file
    except CdiGenError as error:
        yield Finding(error.code, "error", error.message, subject=error.subject)


def _of_mode(
    mode: str, settings: Settings, inventory: Inventory, record: Record
) -> Iterator[Finding]:
    path = specs.path_of(mode, settings)
    try:
        expected = _expected(mode, settings, inventory)
    except NoDriverError:
        return  # a transport whose devices are gone: the rules name the nodes
    installed = spec_directory.installed(path) if path in record.files else None
    if installed is None:
        if path not in record.files:
            yield _finding("CDG-V111", path, "the host has devices for this file")
        return
    if mode.lower() in specs.GPU_MODES:
        installed = _without_gpus(installed)
    difference = comparison.compare(
        contents.of_specs([installed], with_settings=True),
        contents.of_specs([expected], with_settings=True),
    )
    for line in comparison.lines(difference):
        yield _finding("CDG-V111", path, line)


def _expected(mode: str, settings: Settings, inventory: Inventory) -> Spec:
    options = specs.options_of(mode, settings)
    if mode.lower() in specs.GPU_MODES:
        # The driver's part of the spec is the same for every GPU.
        options = options._replace(devices=(NONE,))
    return modes.find(mode).spec(inventory, options)


def _without_gpus(spec: Spec) -> Spec:
    return replace(spec, devices=(Device(name=NONE, container_edits=NO_EDITS),))


def _finding(code: str, subject: str, message: str) -> Finding:
    return Finding(code, "error", f"{subject}: {message}", subject=subject)
