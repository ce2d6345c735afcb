# SPDX-License-Identifier: Apache-2.0
"""Whether an image can use this host's GPUs: `cdi-gen doctor --image NAME`.

The image is opened once; each check of the family takes its findings from the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cdi_base.findings import Finding
from cdi_gen.compat.facts import HostFacts
from cdi_gen.compat.host_facts import host_facts
from cdi_gen.compat.image_facts import image_facts
from cdi_gen.compat.verdict import UNKNOWN, verdict
from cdi_gen.doctor import image_contents
from cdi_gen.doctor.check import Check, NotApplicable, Unseen
from cdi_gen.doctor.engine_statuses import finding_of
from cdi_gen.doctor.host import Host
from cdi_gen.errors import CdiGenError
from cdi_gen.images import places
from cdi_gen.images.model import Image
from cdi_gen.images.opening import open_image

SHOWN = frozenset({"warning", "error"})
LOADER_PATH = "CDG-M110"
"""The check image-loader-path has this fault, also on a host without a driver."""

EXAMINATIONS: dict[str, image_contents.Examination] = {
    "loader": image_contents.loader,
    "graphics": image_contents.neutral_libraries,
    "loader-path": image_contents.loader_path,
    "driver-libraries": image_contents.driver_libraries,
    "capabilities": image_contents.capabilities,
}


def _answer(host: Host) -> dict[str, Any]:
    """Return the findings of all checks of the image; those that do not apply are missing.

    Raises:
        NotApplicable: no image is named.
        CdiGenError: the image cannot be read.
    """
    name = host.scope.image
    if name is None:
        raise NotApplicable("no image is named: --image NAME")

    def examine() -> dict[str, Any]:
        with open_image(name, host=_places(host)) as image:
            return {
                check: [finding.fields() for finding in findings]
                for check, findings in _findings(host, image)
            }

    answer: dict[str, Any] = host.fact("image", examine, name)
    return answer


def _places(host: Host) -> places.Host:
    root = host.where.host_root
    environment = host.machine.environment if host.machine else {}
    return places.Host(environment, host.uid, "" if root == "/" else root)


def _findings(host: Host, image: Image) -> Iterator[tuple[str, list[Finding]]]:
    yield "cuda", list(_cuda(host, image))
    files = image.files
    if files is None:
        return
    for name, examination in EXAMINATIONS.items():
        if name != "graphics" or image_contents.wants_graphics(image):
            yield name, list(examination(image, files))


def _cuda(host: Host, image: Image) -> Iterator[Finding]:
    try:
        of_host = host_facts(host.inventory)
    except CdiGenError:
        of_host = HostFacts()
    result = verdict(image_facts(image), of_host)
    if result.kind == UNKNOWN:
        return
    findings = (() if result.runs else result.reasons) + result.limits
    yield from (
        finding for finding in findings if finding.severity in SHOWN and finding.code != LOADER_PATH
    )


def _check(part: str) -> Callable[[Host], Iterator[Finding]]:
    def examine(host: Host) -> Iterator[Finding]:
        try:
            answer = _answer(host)
        except CdiGenError as error:
            raise Unseen(error.message, error.hint or "") from error
        if part not in answer:
            raise NotApplicable("the image does not have what this check examines")
        yield from map(finding_of, answer[part])

    return examine


CHECKS = (
    Check("image-cuda", "images", "the image's CUDA runs on this host", _check("cuda")),
    Check("image-loader", "images", "the image has a loader for the driver", _check("loader")),
    Check(
        "image-graphics",
        "images",
        "the image has the libraries of no vendor that graphics needs",
        _check("graphics"),
    ),
    Check(
        "image-loader-path",
        "images",
        "the image's loader finds the driver's libcuda first",
        _check("loader-path"),
    ),
    Check(
        "image-driver-libraries",
        "images",
        "the image contains no library of a driver",
        _check("driver-libraries"),
    ),
    Check(
        "image-capabilities",
        "images",
        "the image asks for the capabilities that its programs use",
        _check("capabilities"),
    ),
)
