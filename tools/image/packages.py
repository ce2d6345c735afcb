# SPDX-License-Identifier: Apache-2.0
"""The list of the packages in the image, in the form of SPDX 2.3."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path
from typing import NamedTuple

from tools import debian
from tools.image.programs import PACKAGES
from tools.image.system import ARCHITECTURES

PATH = "usr/share/cdi-gen/packages.spdx.json"


class Package(NamedTuple):
    """A package, and its URL (purl)."""

    name: str
    version: str
    url: str


def installed(roots: Iterable[Path], architecture: str) -> list[Package]:
    """Return the packages of the layers: Debian's, Python's, and those that the bundle is of."""
    name = ARCHITECTURES[architecture]
    suffix = f"?arch={name}&distro={debian.suite()}"
    packages = [
        Package(p.name, p.version, f"pkg:deb/debian/{p.name}@{p.version}{suffix}")
        for p in debian.pinned(name)
    ]
    packages += [
        Package(
            p.name,
            p.version,
            f"pkg:deb/debian/{p.name}@{p.version}?arch=source&distro={debian.suite()}",
        )
        for p in debian.pinned(debian.SOURCES)
    ]
    for path in sorted(path for root in roots for path in (root / PACKAGES).glob("*.dist-info")):
        distribution = Distribution.at(path)
        project = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        packages.append(
            Package(project, distribution.version, f"pkg:pypi/{project}@{distribution.version}")
        )
    return packages


def document(packages: list[Package], *, created: str, version: str) -> str:
    """Return the document of SPDX.

    Args:
        packages: what the image contains.
        created: a time of RFC 3339.
        version: of cdi-gen.
    """
    elements = [
        {
            "SPDXID": f"SPDXRef-{number}",
            "name": package.name,
            "versionInfo": package.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION",
            "externalRefs": [
                {
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": package.url,
                }
            ],
        }
        for number, package in enumerate(packages)
    ]
    return json.dumps(
        {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": f"cdi-gen-{version}",
            "documentNamespace": f"urn:cdi-gen:image:{version}:{created}",
            "creationInfo": {"created": created, "creators": ["Tool: cdi-gen"]},
            "packages": elements,
            "relationships": [
                {
                    "spdxElementId": "SPDXRef-DOCUMENT",
                    "relationshipType": "DESCRIBES",
                    "relatedSpdxElement": element["SPDXID"],
                }
                for element in elements
            ],
        },
        indent=1,
    )
