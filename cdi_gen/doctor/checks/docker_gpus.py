# SPDX-License-Identifier: Apache-2.0
"""Whether ``docker run --gpus`` works: dockerd looks for a program when it starts."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.engines import facts
from cdi_gen.engines.machine import USUAL_DIRECTORIES
from cdi_gen.paths import join


def examine(host: Host) -> Iterator[Finding]:
    """Yield that dockerd finds none of the programs that it uses for ``--gpus``."""
    docker = facts.docker()
    statuses = [status for status in host.engines if status.engine == "docker"]
    if not statuses:
        raise NotApplicable("Docker is not installed")
    for status in statuses:
        uses_cdi = at_least(status.version, docker.gpus_by_cdi_since, unknown=True)
        names = [docker.gpus_by_cdi_program] if uses_cdi else []
        names.append(docker.gpus_by_hook_program)
        paths = [join(directory, name) for name in names for directory in USUAL_DIRECTORIES]
        path = next((path for path in paths if host.status(path, follow=True)), None)
        version = status.version or "of an unknown version"
        if path:
            message = f"docker run --gpus: dockerd {version} uses {path}"
            yield Finding("CDG-E108", "info", message, subject="docker")
        else:
            yield Finding(
                "CDG-E108",
                "warning",
                f"docker run --gpus does not work: dockerd {version} does not find {names[0]} "
                '("could not select device driver")',
                subject="docker",
                fix=f"sudo cdi-gen hook install --{names[0]} && sudo {docker.restart}  # or "
                "request the devices by name: docker run --device nvidia.com/gpu=all",
            )


CHECK = Check("docker-gpus", "engines", "docker run --gpus works", examine)
