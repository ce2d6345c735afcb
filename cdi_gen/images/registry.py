# SPDX-License-Identifier: Apache-2.0
"""Asks a registry for the configuration of an image, with the program skopeo.

The files of the image are not fetched: an image of CUDA has several GiB.
"""

from __future__ import annotations

import os
import subprocess

from cdi_base import trust
from cdi_gen.images import oci
from cdi_gen.images.errors import MAX_JSON, ImageError, ImageNotFoundError
from cdi_gen.images.model import Image

DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/bin")
TIMEOUT = 60


def program() -> str | None:
    """Return the path of skopeo; None if it is missing, or an untrusted user may change it."""
    for directory in DIRECTORIES:
        path = f"{directory}/skopeo"
        try:
            if os.access(path, os.X_OK) and not trust.fault(path, owners={0, os.geteuid()}):
                return path
        except OSError:
            continue
    return None


def open_reference(reference: str, *options: str) -> Image:
    """Open the image of a reference: ``docker://registry.example/cuda:12.4``.

    Args:
        reference: a transport and a name, as skopeo takes them.
        options: of `skopeo inspect`.

    Raises:
        ImageError: skopeo is not installed, or cannot read it.
    """
    path = program()
    if path is None:
        raise ImageError(
            f"{reference}: skopeo, which asks registries, is not installed",
            hint="install skopeo; or pull the image, and name it without docker://",
            code="CDG-M027",
        )
    config = _inspect(path, "--config", *options, reference)
    configuration = oci.configuration(oci.document(config, reference))
    digest = _inspect(path, "--format", "{{.Digest}}", *options, reference).decode().strip()
    return Image(
        name=reference.partition("://")[2] or reference,
        store="registry",
        files=None,
        digest=digest if oci.is_digest(digest) else None,
        environment=configuration.environment,
        labels=configuration.labels,
        architecture=configuration.architecture,
        unread=(
            "only the configuration was read of the registry: pull the image to see its files",
        ),
    )


def _inspect(path: str, *arguments: str) -> bytes:
    try:
        ended = subprocess.run(
            [path, "inspect", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ImageError(
            f"{arguments[-1]}: the registry did not answer in {TIMEOUT} seconds", code="CDG-M027"
        ) from None
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}", code="CDG-M027") from None
    if ended.returncode:
        lines = ended.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        message = lines[-1]
        kind = ImageNotFoundError if "manifest unknown" in message else ImageError
        raise kind(
            f"{arguments[-1]}: skopeo: {message[:500]}",
            hint="check the name; a private registry needs: skopeo login REGISTRY",
            code="CDG-M021" if kind is ImageNotFoundError else "CDG-M027",
        )
    return ended.stdout[: MAX_JSON + 1]
