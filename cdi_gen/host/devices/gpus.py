# SPDX-License-Identifier: Apache-2.0
"""GPUs and MIG devices: procfs and sysfs first, NVML for what they cannot tell.

One that cannot be used is skipped and reported; the others are not affected.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from cdi_base import trust
from cdi_gen.host import boot
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.nodes import DeviceNodes
from cdi_gen.host.roots import Root
from cdi_gen.inventory import CharDevice, Gpu, Left, MigDevice, Missing, Skipped

if TYPE_CHECKING:
    from cdi_gen.host.devices.nvml import MigInstance, NvmlGpu

NEVER_DIVIDED = re.compile(r"\b(?:GeForce|TITAN|Quadro|Tesla|NVS)\b", re.IGNORECASE)
"""In the names of models that have no MIG: those before Ampere, and those of home computers. The
kernel module has a directory for MIG devices of every GPU, so it does not tell."""


NO_MIG_DEVICE = "MIG is enabled, and it has no MIG device; nvidia-smi mig -cgi PROFILE -C makes one"


class NvmlFault(NamedTuple):
    """Why NVML did not answer, or not completely."""

    reason: str
    code: str = "CDG-H208"


class GpuSearch:
    """Looks for every GPU of the kernel module and for the MIG devices in them."""

    def __init__(
        self,
        kernel: Root,
        nodes: DeviceNodes,
        nvml_library: str | None,
        *,
        requirement_facts: bool = False,
    ) -> None:
        self._kernel = kernel
        self._requirement_facts = requirement_facts
        self._facts: dict[str, NvmlGpu] = {}
        self._nodes = nodes
        self._nvml_library = nvml_library
        self._capabilities: list[proc.MigCapability] = []
        self.gpus: list[Gpu] = []
        self.mig_devices: list[MigDevice] = []
        self.missing: list[Missing] = []
        self.skipped: list[Skipped] = []
        self.left: list[Left] = []

    def find(self) -> None:
        """Look once; the results are this object's attributes."""
        found = self._with_nodes(self._procfs())
        self._capabilities = proc.mig_capabilities(self._kernel)
        asked = self._to_ask(found)
        addresses = {
            each.pci_address: self._requirement_facts or each.uuid is None or self._is_divided(each)
            for index, each in found.items()
            if index in asked or self._requirement_facts
        }
        answers, fault = self._ask_nvml(addresses)
        if self._requirement_facts:
            self._facts = answers
            if fault:
                self._unknown("the compute capability of the GPUs", fault)
        for index, each in found.items():
            # The same devices, whatever else NVML was asked for.
            answer = answers.get(each.pci_address) if index in asked else None
            self._gpu(index, each, answer, fault if index in asked else None)
        self._name_each_by_its_own()

    def _procfs(self) -> dict[int, proc.GpuInformation]:
        """GPUs by index, in PCI order. A broken one keeps its index, and the others theirs."""
        found = {}
        index = 0
        for address in proc.gpu_addresses(self._kernel):
            try:
                information = proc.gpu_information(self._kernel, address)
            except (OSError, ValueError) as error:
                fault = (error.strerror if isinstance(error, OSError) else None) or str(error)
                self._skip(_name(index, address), fault, "CDG-H101")
            else:
                if information.excluded:  # NVML does not count it either
                    self.left.append(
                        Left(
                            path=f"GPU at {address}",
                            reason="excluded by the driver's settings",
                            code="CDG-H112",
                        )
                    )
                    continue
                reason = self._nodes.no_gpu(information.minor)
                if reason and boot.is_container(self._kernel):
                    # NVML counts those that it may open: they are numbers 0 and up in there.
                    self._skip(f"GPU at {address}", reason, "CDG-H103")
                    continue
                if proc.is_off_the_bus(self._kernel, address):
                    reason = "it has fallen off the bus (dmesg: Xid 79)"
                    self._skip(_name(index, address), reason, "CDG-H102")
                else:
                    found[index] = information
            index += 1
        return found

    def _with_nodes(self, found: dict[int, proc.GpuInformation]) -> dict[int, proc.GpuInformation]:
        """Those that this machine can give; while it boots, nodes may still come."""
        absent = {
            index: reason
            for index, each in found.items()
            if (reason := self._nodes.no_gpu(each.minor))
        }
        if not absent or not boot.is_over(self._kernel):
            return found
        for index, reason in absent.items():
            self._skip(_name(index, found[index].pci_address), reason, "CDG-H103")
        return {index: each for index, each in found.items() if index not in absent}

    def _to_ask(self, found: dict[int, proc.GpuInformation]) -> frozenset[int]:
        """Indices of GPUs of which procfs does not tell all: the UUID, MIG, its devices."""
        divisible = proc.gpus_with_mig_directory(self._kernel)
        return frozenset(
            index
            for index, each in found.items()
            if each.uuid is None
            or self._is_divided(each)
            or (each.minor in divisible and not NEVER_DIVIDED.search(each.model))
        )

    def _is_divided(self, information: proc.GpuInformation) -> bool:
        """Whether the kernel has GPU instances of it."""
        return any(each.gpu_minor == information.minor for each in self._capabilities)

    def _ask_nvml(self, addresses: dict[str, bool]) -> tuple[dict[str, NvmlGpu], NvmlFault | None]:
        """NVML's answers by PCI address, and why they are missing or incomplete.

        Args:
            addresses: whether all is to be asked of a GPU, or at first its MIG mode alone.
        """
        if not addresses:
            return {}, None
        if self._nvml_library is None:
            return {}, NvmlFault("libnvidia-ml is not installed")
        from cdi_gen.host.devices import mig_mode, nvml  # noqa: PLC0415 - many hosts never need them

        if os.geteuid() == 0 and (reason := trust.fault(self._nvml_library)):
            return {}, NvmlFault(f"root does not load {self._nvml_library}: {reason}")
        mode_alone = tuple(each for each, everything in addresses.items() if not everything)
        try:
            modes = mig_mode.ask(self._nvml_library, mode_alone) if mode_alone else {}
            more = tuple(each for each in addresses if each not in modes or modes[each].enabled)
            answers = {each: nvml.NvmlGpu(fault=mode.fault) for each, mode in modes.items()}
            return answers | (nvml.ask(self._nvml_library, more) if more else {}), None
        except nvml.PynvmlMissing as error:
            return self._ask_mig_modes(self._nvml_library, tuple(addresses), str(error))
        except mig_mode.NvmlUnavailable as error:
            return {}, NvmlFault(str(error))

    def _ask_mig_modes(
        self, library: str, addresses: tuple[str, ...], fault: str
    ) -> tuple[dict[str, NvmlGpu], NvmlFault]:
        """The answers that need no pynvml: without MIG, a GPU is usable as procfs describes it."""
        from cdi_gen.host.devices import mig_mode, nvml  # noqa: PLC0415 - as above

        try:
            modes = mig_mode.ask(library, addresses)
        except mig_mode.NvmlUnavailable as error:
            return {}, NvmlFault(str(error))
        answers = {
            address: nvml.NvmlGpu(
                mig_enabled=mode.enabled, fault=fault if mode.enabled else mode.fault
            )
            for address, mode in modes.items()
        }
        return answers, NvmlFault(fault, "CDG-H207")

    def _gpu(
        self,
        index: int,
        information: proc.GpuInformation,
        answer: NvmlGpu | None,
        fault: NvmlFault | None,
    ) -> None:
        name = _name(index, information.pci_address)
        node = self._nodes.gpu(information.minor)
        if node is None:
            self._skip(name, "the driver has no major number", "CDG-H104")
            return
        if answer is not None and answer.fault and not answer.mig_enabled:
            self._skip(name, answer.fault, "CDG-H105")
            return
        uuid = information.uuid or (answer.uuid if answer else None)
        if uuid is None:
            self._unknown(f"the UUID of {name}", fault)
        divided = self._is_divided(information)
        if fault and answer is None and not divided:
            self._unknown(f"the MIG mode of {name}", fault)
        mig_enabled = divided or (answer is not None and answer.mig_enabled)
        told = self._facts.get(information.pci_address)
        drm_nodes = self._nodes.drm(information.pci_address)
        self.gpus.append(
            Gpu(
                index=index,
                minor=information.minor,
                uuid=uuid,
                pci_address=information.pci_address,
                model=information.model,
                nodes=(node,),
                drm_nodes=drm_nodes,
                by_path=self._nodes.by_path(information.pci_address, drm_nodes),
                mig_enabled=mig_enabled,
                compute_capability=told.compute_capability if told else None,
                brand=told.brand if told else None,
            )
        )
        if not mig_enabled:
            return
        if answer is None or answer.fault:
            reason = str(answer.fault if answer else fault and fault.reason)
            code = "CDG-H107"
        elif not answer.mig_enabled:
            reason = "the kernel has GPU instances of it, and NVML says that MIG is disabled"
            code = "CDG-H111"
        elif not (answer.mig or answer.mig_faults):
            self._skip(name, NO_MIG_DEVICE, "CDG-H106")
            return
        else:
            self._mig_devices(index, information, answer)
            return
        self._skip(f"MIG devices of {name}", reason, code)

    def _mig_devices(self, index: int, information: proc.GpuInformation, answer: NvmlGpu) -> None:
        for number, reason in answer.mig_faults:
            self._skip(f"MIG device {index}:{number}", reason, "CDG-H108")
        for instance in answer.mig:
            name = f"MIG device {index}:{instance.index}"
            nodes = self._mig_nodes(information.minor, instance)
            absent = [node.path for node in nodes if not node.present]
            if len(nodes) != 2:
                self._skip(
                    name,
                    "the kernel has no capability for its GPU instance or its compute instance",
                    "CDG-H109",
                )
            elif absent and boot.is_container(self._kernel):
                reason = f"this container has no device node {' and no '.join(absent)}"
                self._skip(name, reason, "CDG-H110")
            else:
                self.mig_devices.append(
                    MigDevice(
                        gpu_index=index,
                        index=instance.index,
                        uuid=instance.uuid,
                        gpu_instance=instance.gpu_instance,
                        compute_instance=instance.compute_instance,
                        profile=instance.profile,
                        gpu_instance_cap=nodes[0],
                        compute_instance_cap=nodes[1],
                    )
                )

    def _mig_nodes(self, gpu_minor: int, instance: MigInstance) -> list[CharDevice]:
        """The nodes of its GPU instance and of its compute instance, as far as there are any."""
        files = {
            each.compute_instance: each
            for each in self._capabilities
            if (each.gpu_minor, each.gpu_instance) == (gpu_minor, instance.gpu_instance)
        }
        found = (
            self._nodes.capability(each.device_minor, each.file_mode)
            for compute_instance in (None, instance.compute_instance)
            if (each := files.get(compute_instance))
        )
        return [node for node in found if node is not None]

    def _name_each_by_its_own(self) -> None:
        """Two devices of one UUID are told apart by their other names; neither has this one."""
        uuids = [each.uuid for each in self.gpus] + [each.uuid for each in self.mig_devices]
        shared = {uuid for uuid, times in Counter(uuids).items() if uuid and times > 1}
        if not shared:
            return
        for uuid in sorted(shared):
            reason = "several devices have it, so that none is named by it"
            self.missing.append(Missing(name=f"UUID {uuid}", reason=reason, code="CDG-H206"))
        self.gpus = [
            replace(each, uuid=None) if each.uuid in shared else each for each in self.gpus
        ]
        self.mig_devices = [
            replace(each, uuid=None) if each.uuid in shared else each for each in self.mig_devices
        ]

    def _unknown(self, name: str, fault: NvmlFault | None) -> None:
        code = fault.code if fault else "CDG-H205"
        reason = f"is not known: {fault.reason if fault else None}"
        self.missing.append(Missing(name=name, reason=reason, code=code))

    def _skip(self, device: str, reason: str, code: str) -> None:
        self.skipped.append(Skipped(device=device, reason=reason, code=code))


def _name(index: int, pci_address: str) -> str:
    return f"GPU {index} at {pci_address}"
