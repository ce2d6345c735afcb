# SPDX-License-Identifier: Apache-2.0
"""GPUs and MIG devices: procfs and sysfs first, NVML for what they can not tell.

One that can not be used is skipped and reported; the others are not affected.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cdi_gen import ownership
from cdi_gen.host import proc
from cdi_gen.host.devices import DeviceNodes
from cdi_gen.host.roots import Root
from cdi_gen.inventory import Gpu, Left, MigDevice, Missing, Skipped

if TYPE_CHECKING:
    from cdi_gen.host.nvml import MigInstance, NvmlGpu


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
        self.gpus: list[Gpu] = []
        self.mig_devices: list[MigDevice] = []
        self.missing: list[Missing] = []
        self.skipped: list[Skipped] = []
        self.left: list[Left] = []

    def find(self) -> None:
        """Look once; the results are this object's attributes."""
        found = self._procfs()
        capabilities = proc.mig_capabilities(self._kernel)
        divided = {each.gpu_minor for each in capabilities}
        # Once NVML is up, a further GPU costs next to nothing, and only NVML tells that MIG is
        # enabled on one that has no instance yet.
        needed = any(each.uuid is None or each.minor in divided for each in found.values())
        asking = needed or self._requirement_facts
        addresses = tuple(each.pci_address for each in found.values()) if asking else ()
        answers, fault = self._ask_nvml(addresses)
        if self._requirement_facts:
            self._facts = answers
        if not needed:
            # The same devices, whatever else NVML was asked for.
            answers = {}
        for index, each in found.items():
            self._gpu(index, each, each.minor in divided, answers, fault, capabilities)

    def _procfs(self) -> dict[int, proc.GpuInformation]:
        """GPUs by index, in PCI order. A broken one keeps its index, and the others theirs."""
        found = {}
        index = 0
        for address in proc.gpu_addresses(self._kernel):
            try:
                information = proc.gpu_information(self._kernel, address)
            except (OSError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                self.skipped.append(Skipped(device=f"GPU {index} at {address}", reason=reason))
            else:
                if information.excluded:  # NVML does not count it either
                    self.left.append(
                        Left(path=f"GPU at {address}", reason="excluded by the driver's settings")
                    )
                    continue
                found[index] = information
            index += 1
        return found

    def _ask_nvml(self, addresses: tuple[str, ...]) -> tuple[dict[str, NvmlGpu], str | None]:
        """NVML's answers by PCI address, or the reason why there are none."""
        if not addresses:
            return {}, None
        if self._nvml_library is None:
            return {}, "libnvidia-ml is not installed"
        from cdi_gen.host import nvml  # noqa: PLC0415 - most hosts never need it

        if os.geteuid() == 0 and (reason := ownership.fault(self._nvml_library)):
            return {}, f"root does not load {self._nvml_library}: {reason}"
        try:
            return nvml.ask(self._nvml_library, addresses), None
        except nvml.NvmlUnavailable as error:
            return {}, str(error)

    def _gpu(
        self,
        index: int,
        information: proc.GpuInformation,
        divided: bool,
        answers: dict[str, NvmlGpu],
        fault: str | None,
        capabilities: list[proc.MigCapability],
    ) -> None:
        name = f"GPU {index} at {information.pci_address}"
        node = self._nodes.gpu(information.minor)
        if node is None:
            self.skipped.append(Skipped(device=name, reason="the driver has no major number"))
            return
        answer = answers.get(information.pci_address)
        if answer is not None and answer.fault and not answer.mig_enabled:
            self.skipped.append(Skipped(device=name, reason=answer.fault))
            return
        uuid = information.uuid or (answer.uuid if answer else None)
        if uuid is None:
            self.missing.append(Missing(name=name, reason=f"its UUID is not known: {fault}"))
        mig_enabled = divided or (answer is not None and answer.mig_enabled)
        told = self._facts.get(information.pci_address)
        self.gpus.append(
            Gpu(
                index=index,
                minor=information.minor,
                uuid=uuid,
                pci_address=information.pci_address,
                model=information.model,
                node=node,
                drm_nodes=self._nodes.drm(information.pci_address),
                mig_enabled=mig_enabled,
                compute_capability=told.compute_capability if told else None,
                brand=told.brand if told else None,
            )
        )
        if not mig_enabled:
            return
        if answer is None or answer.fault:
            reason = answer.fault if answer else fault
            self.skipped.append(Skipped(device=f"MIG devices of {name}", reason=str(reason)))
            return
        self._mig(index, information, answer.mig, capabilities)

    def _mig(
        self,
        index: int,
        information: proc.GpuInformation,
        instances: tuple[MigInstance, ...],
        capabilities: list[proc.MigCapability],
    ) -> None:
        minor = information.minor
        files = {
            (each.gpu_instance, each.compute_instance): each
            for each in capabilities
            if each.gpu_minor == minor
        }
        for instance in instances:
            caps = [
                self._nodes.capability(each.device_minor, each.file_mode)
                for key in (
                    (instance.gpu_instance, None),
                    (instance.gpu_instance, instance.compute_instance),
                )
                if (each := files.get(key))
            ]
            nodes = [each for each in caps if each is not None]
            if len(nodes) != 2:
                self.skipped.append(
                    Skipped(
                        device=f"MIG device {index}:{instance.index}",
                        reason="the kernel has no capability for its GPU instance or its compute "
                        "instance",
                    )
                )
                continue
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
