# SPDX-License-Identifier: Apache-2.0
"""Whether NVIDIA's runtime reads the GPUs that Docker Swarm assigns to a container."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cdi_base.errors import HookError
from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.nvidia_configuration import PATH, read_configuration
from cdi_gen.engines import facts

_PREFIX = "DOCKER_RESOURCE_"


def examine(host: Host) -> Iterator[Finding]:
    """Yield kinds of generic resources whose variable the runtime does not read."""
    variables = dict.fromkeys(f"{_PREFIX}{kind.upper()}" for kind in _kinds(host))
    if not variables:
        raise NotApplicable("dockerd announces no GPU to Swarm")
    try:
        listed = read_configuration(host).swarm_resource
    except HookError:
        return  # the check no-cgroups says what is wrong with the file
    for variable in variables:
        if variable not in listed:
            is_read = ", ".join(listed) or "none"
            yield Finding(
                "CDG-A241",
                "warning",
                f"Swarm tells a container its GPUs in {variable}, and swarm-resource of {PATH} is "
                f"{is_read}: the container gets the GPUs of NVIDIA_VISIBLE_DEVICES, usually all",
                subject=PATH,
                fix=f"""sudo sed -i -e '1i swarm-resource = "{",".join(variables)}"' """
                rf"-e '/^#\?swarm-resource/d' {PATH}",
            )
            return


def _kinds(host: Host) -> Iterator[str]:
    """The kinds of the generic resources of this node that are GPUs."""
    try:
        document = json.loads(host.text(facts.docker().configuration) or "{}")
    except (ValueError, RecursionError):
        return  # the check engine-support says that dockerd does not start
    resources = document.get("node-generic-resources") if isinstance(document, dict) else None
    for resource in resources if isinstance(resources, list) else ():
        kind, _, value = str(resource).partition("=")
        if "gpu" in kind.lower() or value.startswith("GPU-"):
            yield kind


CHECK = Check(
    "swarm-resources",
    "engines",
    "NVIDIA's runtime reads the GPUs that Docker Swarm assigns",
    examine,
)
