# SPDX-License-Identifier: Apache-2.0
"""Step check-requirements: stops a container whose image has requirements that the host lacks.

NVIDIA_REQUIRE_* of an image states the drivers and GPUs that the image supports.
nvidia-container-cli checks these variables. Engines that inject devices by CDI do not, so that a
program fails at its first CUDA call instead. The options of the hook have the facts of the host,
the bundle's config.json has the requirements.
"""

from __future__ import annotations

import os

from cdi_base import oci_config, process, versions
from cdi_base.errors import SkippedError, UsageError, shown
from cdi_base.files import same_file
from cdi_base.nvidia import BRANDS, number
from cdi_hook.arguments import last
from cdi_hook.gpu_nodes import gpu_minors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cdi_base.requirement import Facts, GpuFacts, Requirements
    from cdi_base.rootfs.rootfs import RootFs
    from cdi_hook.arguments import Options

NAME = "check-requirements"


class Plan:
    """The host's facts, and the functions of the check, which few containers import."""

    __slots__ = ("check", "facts", "names", "read")

    def __init__(
        self,
        facts: Facts,
        read: Callable[[Mapping[str, str]], Requirements],
        check: Callable[[Requirements, Facts], tuple[str, ...]],
        names: tuple[str, ...],
    ) -> None:
        self.facts = facts
        self.names = names
        self.read = read
        self.check = check


def prepare(options: Options) -> Plan | None:
    """Return the facts of the host in the options; None if the check is not requested.

    Raises:
        UsageError: an option is not a valid version or GPU.
    """
    if not options[f"--{NAME}"]:
        return None
    # Imported here because few specs request the check. Nothing of the image has been read so far.
    from cdi_base import requirement  # noqa: PLC0415

    def gpu(text: str) -> GpuFacts:
        minor, _, rest = text.partition(":")
        arch, colon, brand = rest.partition(":")
        if number(minor) is None or not colon:
            raise UsageError(f"--gpu {shown(text)} is not MINOR:ARCH:BRAND")
        if arch and versions.parse(arch) is None:
            raise UsageError(f"--gpu {shown(text)}: not a compute capability")
        if brand and brand not in BRANDS:
            raise UsageError(f"--gpu {shown(text)}: unknown brand")
        name = f"/dev/nvidia{minor}"
        return requirement.GpuFacts(arch or None, brand or None, name, minor=int(minor))

    facts = requirement.Facts(
        last(options["--host-cuda-version"]),
        last(options["--host-driver-version"]),
        [gpu(text) for text in options["--gpu"]],
    )
    return Plan(facts, requirement.from_environment, requirement.check, requirement.NAMES)


def run(rootfs: RootFs, plan: Plan, _until: float) -> None:
    """Stop the container if the host, or one of the container's GPUs, lacks a requirement.

    Raises:
        SkippedError: the requirements of the image are not known.
        UnsatisfiedError: a requirement does not hold.
    """
    requirements = plan.read(_environment(rootfs, plan.names))
    facts = plan.facts.with_nodes(gpu_minors(rootfs))
    if not requirements:
        return
    rootfs.report_change(
        f"check {', '.join(shown(name) for name, _ in requirements)} against {facts}"
    )
    for doubt in plan.check(requirements, facts):
        process.say(f"{NAME}: {doubt}", "CDG-R804")


def _environment(rootfs: RootFs, names: tuple[str, ...]) -> dict[str, str]:
    if rootfs.bundle is None or _is_root(rootfs, rootfs.bundle):
        raise SkippedError("the container's config.json cannot be found")
    try:
        return oci_config.environment(rootfs.bundle, names)
    except (FileNotFoundError, PermissionError) as error:
        raise SkippedError(f"the container's config.json: {error.strerror}") from None


def _is_root(rootfs: RootFs, bundle: int) -> bool:
    """Whether the bundle is the container's root: then its config.json is a file of the image.

    A hook that is run manually can have such a bundle.
    """
    return same_file(os.fstat(rootfs.descriptor), os.fstat(bundle))
