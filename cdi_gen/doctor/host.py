# SPDX-License-Identifier: Apache-2.0
"""The host as checks see it: every answer is read once, through ``--host-root``, and recorded.

A check that needs something else adds a method here, or calls `Host.fact`; it opens no file itself.
Paths are those of the host. A host may also be a report (`Recording.is_replay`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen import host
from cdi_gen.doctor import kernel_log, pci, processes, spec_files
from cdi_gen.doctor.check import Unseen
from cdi_gen.doctor.host_files import HostFiles
from cdi_gen.doctor.kernel_log import LogLine
from cdi_gen.doctor.pci import PciFunction
from cdi_gen.doctor.processes import Process
from cdi_gen.doctor.recording import Json, Recording
from cdi_gen.doctor.rooted_machine import RootedMachine
from cdi_gen.engines.machine import Machine
from cdi_gen.engines.status import EngineStatus
from cdi_gen.host import boot
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.proc import KernelModule
from cdi_gen.host.roots import Root
from cdi_gen.host.where import Roots, Where, roots
from cdi_gen.inventory import Inventory, json_form
from cdi_gen.store import Registry
from cdi_gen.store import registry as registries


class Scope(NamedTuple):
    """What the user wants to be examined."""

    engines: tuple[str, ...] = ()
    """The names of engines; empty: all that are installed."""
    image: str | None = None
    spec_directories: tuple[str, ...] = SPEC_DIRECTORIES


class Host(HostFiles):
    """A host, or the record of one."""

    def __init__(
        self,
        where: Where | None = None,
        *,
        scope: Scope | None = None,
        machine: Machine | None = None,
        recording: Recording | None = None,
    ) -> None:
        """Create the host.

        Args:
            where: the layout of the host.
            scope: what is examined.
            machine: runs programs and asks engines. None: this machine, if the root of the host is
                ``/``; programs of another root are not run.
            recording: the answers of a report; None: read the host.
        """
        self.where = where or Where()
        self.scope = scope or Scope()
        super().__init__(Root(seen_from=self.where.host_root), recording or Recording())
        if machine is None and self.where.host_root == "/":
            machine = Machine()
        self.machine = machine

    # Programs and processes.

    def output(self, *command: str) -> str | None:
        """Return the output of a program of the host that only root can change.

        None: there is no such program, it fails, or it does not end in time.

        Raises:
            Unseen: the host is another root, or another user could change the program.
        """

        def run() -> str | None:
            if self.machine is None:
                raise Unseen(
                    f"{command[0]} is not run for the host in {self.where.host_root}",
                    "run cdi-gen doctor on the host itself",
                )
            program = self.machine.program(command[0])
            if program is None:
                return None
            if not self.machine.trusts(program):
                raise Unseen(f"{program} is not run: users other than root can change it")
            return self.machine.output(program, *command[1:])

        answer: str | None = self.recording.ask("output", " ".join(command), run)
        return answer

    def processes(self, *names: str) -> tuple[Process, ...]:
        """Return the processes of programs with these names.

        Raises:
            Unseen: the process 1 of the host is not visible, as in a container.
        """

        def matches() -> list[list[Any]]:
            if boot.is_container(self.root) or not self.root.exists("/proc/1"):
                raise Unseen(
                    f"the processes of the host are not visible: {', '.join(names)}",
                    "run cdi-gen doctor as root on the host itself, not in a container",
                )
            return [
                [process.pid, process.name, [*process.arguments], process.user]
                for process in self._all_processes
                if process.name in names
            ]

        answer = self.recording.ask("processes", " ".join(names), matches)
        return tuple(
            Process(pid, name, tuple(arguments), user) for pid, name, arguments, user in answer
        )

    @cached_property
    def _all_processes(self) -> list[Process]:
        return processes.list_processes(self.root)

    # The user.

    @property
    def uid(self) -> int:
        """The effective user id of the user who runs doctor."""
        answer: int = self.recording.ask(
            "user", "uid", lambda: self.machine.uid if self.machine else os.geteuid()
        )
        return answer

    def variable(self, name: str) -> str | None:
        """Return a variable of the user's environment."""
        environment: Mapping[str, str] = self.machine.environment if self.machine else os.environ
        answer: str | None = self.recording.ask("variable", name, lambda: environment.get(name))
        return answer

    # The driver and the kernel.

    @cached_property
    def roots(self) -> Roots:
        """The roots of the host, of the driver and of its nodes, for functions that a fact needs.

        Raises:
            CdiGenError: a directory does not exist.
        """
        return roots(self.where)

    @cached_property
    def inventory(self) -> Inventory:
        """The inventory of the host.

        Raises:
            NoDriverError: no driver is loaded.
            CdiGenError: as `cdi_gen.host.gather`.
        """
        gathered: list[Inventory] = []

        def gather() -> Json:
            gathered.append(host.gather(self.where))
            return json.loads(json_form.dump(gathered[0]))

        document = self.recording.ask("inventory", "", gather)
        return gathered[0] if gathered else json_form.load(json.dumps(document))

    @property
    def driver_module(self) -> KernelModule | None:
        """The loaded kernel module ``nvidia``; None if it is not loaded."""

        def module() -> list[str | None] | None:
            kernel_module = proc.kernel_module(self.root)
            return None if kernel_module is None else [*kernel_module]

        answer = self.recording.ask("driver module", "", module)
        return None if answer is None else KernelModule(*answer)

    @property
    def is_container(self) -> bool:
        """Whether the host is itself a container, which has only some of the host's devices."""
        answer: bool = self.recording.ask("container", "", lambda: boot.is_container(self.root))
        return answer

    @property
    def majors(self) -> dict[str, int]:
        """The major numbers of character devices by driver, from ``/proc/devices``."""
        answer: dict[str, int] = self.recording.ask("majors", "", lambda: proc.majors(self.root))
        return answer

    @property
    def modules(self) -> frozenset[str]:
        """The names of the loaded kernel modules, as ``/proc/modules`` writes them.

        A kernel without loadable modules, and some containers, have only ``/sys/module``.
        """
        text = self.text("/proc/modules", 1 << 22)
        if text is None:
            return frozenset(self.entries("/sys/module") or ())
        return frozenset(line.partition(" ")[0] for line in text.splitlines())

    @property
    def kernel_command_line(self) -> tuple[str, ...]:
        """The parameters of the kernel's command line."""
        return tuple((self.text("/proc/cmdline", 1 << 14) or "").split())

    @property
    def kernel_release(self) -> str:
        """The release of the running kernel, as ``uname -r`` prints it; empty if unknown."""
        return (self.text("/proc/sys/kernel/osrelease", 4096) or "").strip()

    @property
    def uptime(self) -> float | None:
        """Seconds since the boot; None if unknown."""
        words = (self.text("/proc/uptime", 64) or "").split()
        return float(words[0]) if words else None

    @property
    def kernel_log(self) -> tuple[LogLine, ...]:
        """The lines of the kernel's log since the boot about GPUs, drivers and the IOMMU.

        Raises:
            Unseen: this user may not read the log.
        """

        def read() -> Json:
            return kernel_log.read(self.root, self.machine.output if self.machine else None)

        answer = self.recording.ask("kernel log", "", read)
        return tuple(LogLine(seconds, text) for seconds, text in answer)

    @property
    def pci_functions(self) -> tuple[PciFunction, ...]:
        """NVIDIA's PCI functions: GPUs, their audio functions, NVSwitches; in PCI order."""
        answer = self.recording.ask("pci", "", lambda: pci.functions_of_nvidia(self.root))
        return tuple(PciFunction(*fields) for fields in answer)

    @property
    def pci_gpus(self) -> tuple[PciFunction, ...]:
        """The GPUs on the PCI bus, with or without a driver; without virtual functions."""
        return tuple(
            function
            for function in self.pci_functions
            if function.is_gpu and not function.is_virtual
        )

    def iommu_group(self, number: int) -> tuple[PciFunction, ...]:
        """Return the functions, of any vendor, in an IOMMU group."""
        answer = self.recording.ask(
            "iommu group", str(number), lambda: pci.group(self.root, number)
        )
        return tuple(PciFunction(*fields) for fields in answer)

    # Specs and engines.

    def registry(self, directories: Sequence[str] | None = None) -> Registry:
        """Return the content of spec directories, as engines see it.

        Args:
            directories: in rising priority; None: those of the scope.
        """
        names = self.scope.spec_directories if directories is None else tuple(directories)
        return registries.assemble(names, [self._spec_files(name) for name in names])

    def _spec_files(self, directory: str) -> tuple[registries.SpecFile, ...]:
        answer = self.recording.ask(
            "specs", directory, lambda: spec_files.read(self.root, directory)
        )
        return spec_files.interpret(directory, answer)

    @property
    def engines(self) -> tuple[EngineStatus, ...]:
        """The installed engines that are examined. Of another root only the files are read."""
        from cdi_gen.doctor import engine_statuses  # noqa: PLC0415 - takes 20 ms

        def ask() -> Json:
            return engine_statuses.ask(self.machine or RootedMachine(self.root))

        statuses = map(engine_statuses.status_of, self.recording.ask("engines", "", ask))
        wanted = self.scope.engines
        return tuple(status for status in statuses if not wanted or status.engine in wanted)
