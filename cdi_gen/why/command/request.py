# SPDX-License-Identifier: Apache-2.0
"""What a command, or an entry of a file, asks an engine for: the value `ContainerRequest`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from cdi_base.cdi.names import is_qualified
from cdi_base.findings import Finding
from cdi_gen.why.command.gpu_request import GpuRequest

VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"

RUN, BUILD, SERVICE, POD = "run", "build", "service", "pod"
"""What is done with the devices: a container runs, an image is built, Swarm runs a service, or the
kubelet starts the containers of a pod."""


class Rewriting(NamedTuple):
    """The words of a command line, with the options that ask for devices: for an advice."""

    words: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    """The words of the options that ask for devices."""
    at: int = 0
    """Where options of the command can be inserted."""
    before: tuple[str, ...] = ()
    """The words before the program: ``sudo``."""
    misplaced: tuple[tuple[int, int], ...] = ()
    """The words of such options that stand after the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """A container, or a build, as the engine is asked for it."""

    engine: str
    """docker, podman, buildah, nerdctl, containerd (by ctr) or kubernetes."""
    program: str
    """What asks: docker, docker-compose, podman, quadlet, …"""
    action: str = RUN
    source: str
    """The command line, or the file and the entry in it."""
    image: str = ""
    devices: tuple[str, ...] = ()
    """The values of ``--device``, as written."""
    gpus: tuple[GpuRequest, ...] = ()
    podman_gpus: tuple[str, ...] = ()
    """The values of Podman's ``--gpus``, or ctr's: names, and no request of Docker's form."""
    runtime: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    """Source and target of each volume."""
    privileged: bool = False
    capabilities_added: tuple[str, ...] = ()
    security_options: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    isolation: str = ""
    """Of a build: oci, chroot or rootless."""
    allowed: tuple[str, ...] = ()
    """Of a build: the entitlements that are granted by ``--allow``."""
    build_devices: tuple[str, ...] = ()
    """Of a build: the devices of ``RUN --device`` in the Dockerfile."""
    endpoint: str = ""
    """The address of the daemon if it is not the default one."""
    as_root: bool | None = None
    """Whether root asks; None: the user who calls."""
    spec_directories: tuple[str, ...] = ()
    """Given by ``podman --cdi-spec-dir``."""
    hooks_directories: tuple[str, ...] = ()
    """Given by ``podman --hooks-dir``."""
    resources: tuple[tuple[str, str], ...] = ()
    """Of a pod's container: limits."""
    requested_resources: tuple[tuple[str, str], ...] = ()
    """Of a pod's container: requests."""
    generic_resources: tuple[str, ...] = ()
    """Of a service of Swarm: the kinds of resources that it requests."""
    claims: tuple[str, ...] = ()
    """Of a pod's container: names of resource claims."""
    runtime_class: str = ""
    command: str = ""
    """The command of the program, if the request is a command line: run."""
    options: tuple[str, ...] = ()
    """The options that are given to the command, without dashes."""
    findings: tuple[Finding, ...] = ()
    """What is wrong with the command line or the file, before any engine sees it."""
    rewriting: Rewriting = field(default_factory=Rewriting)

    def variable(self, name: str) -> str | None:
        """The value of a variable that the command sets; the last one counts."""
        return dict(self.environment).get(name)

    @property
    def cdi_names(self) -> tuple[str, ...]:
        """The devices that are qualified names of CDI."""
        return tuple(device for device in self.devices if is_qualified(device))

    @property
    def device_paths(self) -> tuple[str, ...]:
        """The devices that are paths of nodes."""
        return tuple(device for device in self.devices if not is_qualified(device))
