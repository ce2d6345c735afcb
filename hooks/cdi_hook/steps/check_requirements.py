# SPDX-License-Identifier: Apache-2.0
"""Step check-requirements: an image that this host cannot run does not start, and is told why.

NVIDIA_REQUIRE_* in an image says which drivers and GPUs it is made for. nvidia-container-cli looked
at it; engines that inject devices by CDI do not, and so a program fails at its first CUDA call
instead. The spec says what the host has, the bundle's config.json what the image asks for.
"""

from __future__ import annotations

import os

from cdi_base import oci_config, process, versions
from cdi_base.errors import SkippedError, UsageError, shown
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
    """The host's facts, and the two halves of the check."""

    __slots__ = ("check", "facts", "names", "required")

    def __init__(
        self,
        facts: Facts,
        required: Callable[[Mapping[str, str]], Requirements],
        check: Callable[[Requirements, Facts], tuple[str, ...]],
        names: tuple[str, ...],
    ) -> None:
        self.facts = facts
        self.names = names
        self.required = required
        self.check = check


def prepare(options: Options) -> Plan | None:
    """What the spec says of the host; None if nothing is asked for.

    Raises:
        UsageError: a version or a GPU that is none.
    """
    if not options[f"--{NAME}"]:
        return None
    # Few specs ask for it; nothing has been read of the image so far.
    from cdi_base import requirement  # noqa: PLC0415

    def gpu(text: str) -> GpuFacts:
        minor, _, rest = text.partition(":")
        arch, colon, brand = rest.partition(":")
        if number(minor) is None or not colon:
            raise UsageError(f"--gpu {shown(text)} is not MINOR:ARCH:BRAND")
        if arch and versions.parse(arch) is None:
            raise UsageError(f"--gpu {shown(text)}: that is no compute capability")
        if brand and brand not in BRANDS:
            raise UsageError(f"--gpu {shown(text)}: there is no such brand")
        name = f"/dev/nvidia{minor}"
        return requirement.GpuFacts(arch or None, brand or None, name, minor=int(minor))

    facts = requirement.Facts(
        last(options["--host-cuda-version"]),
        last(options["--host-driver-version"]),
        [gpu(text) for text in options["--gpu"]],
    )
    return Plan(facts, requirement.from_environment, requirement.check, requirement.NAMES)


def run(rootfs: RootFs, plan: Plan, _until: float) -> None:
    """Stop the container if the host, or one of the container's GPUs, is not what it requires.

    Raises:
        SkippedError: what the image requires is not known.
        UnsatisfiedError: it is not so.
    """
    required = plan.required(_environment(rootfs, plan.names))
    facts = plan.facts.with_nodes(gpu_minors(rootfs))
    if not required:
        return
    rootfs.report_change(f"check {', '.join(shown(name) for name, _ in required)} against {facts}")
    for doubt in plan.check(required, facts):
        process.say(f"{NAME}: {doubt}", "CDG-R804")


def _environment(rootfs: RootFs, names: tuple[str, ...]) -> dict[str, str]:
    if rootfs.bundle is None or _is_the_root(rootfs, rootfs.bundle):
        raise SkippedError("the container's config.json is not known")
    try:
        return oci_config.environment(rootfs.bundle, names)
    except (FileNotFoundError, PermissionError) as error:
        raise SkippedError(f"the container's config.json: {error.strerror}") from None


def _is_the_root(rootfs: RootFs, bundle: int) -> bool:
    """Whether a config.json there would be the image's: so a hook is run by hand."""
    here, there = os.fstat(rootfs.descriptor), os.fstat(bundle)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
