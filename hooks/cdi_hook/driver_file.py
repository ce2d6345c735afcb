# SPDX-License-Identifier: Apache-2.0
"""Reads the driver's versions from the `driver.json` of the host's driver tree.

A spec that mounts the tree names no version, so that it stays true when the driver is updated.
"""

from __future__ import annotations

from cdi_base import process, trust
from cdi_base.errors import HookError, UsageError, shown
from cdi_base.json_object import text_of
from cdi_base.strict_json import parse_object
from cdi_hook.arguments import check_text, last

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.arguments import Options

OPTION = "--host-driver-file"

MAX_SIZE = 256 << 10


def add_versions(options: Options) -> None:
    """Add the versions in the file of `OPTION` to the options, as if the spec had named them.

    The file is the host's, not the container's. If it cannot be used, the versions are unknown, and
    the container starts.

    Raises:
        UsageError: the path is not absolute.
    """
    path = last(options[OPTION]) or ""
    check_text(path)
    if not path.startswith("/"):
        raise UsageError(f"{OPTION} {shown(path)} is not an absolute path")
    try:
        content = trust.read(path, MAX_SIZE)
        document = parse_object(content, shown(path))
        versions = {
            "--host-driver-version": text_of(document, "driverVersion", shown(path)),
            "--host-cuda-version": text_of(document, "cudaVersion", shown(path)),
        }
    except OSError as error:
        process.say(f"{shown(path)}: not used: {error.strerror}", "CDG-K106")
        return
    except HookError as fault:
        process.say(f"{fault}: not used", "CDG-K106")
        return
    for option, version in versions.items():
        if version and option in options and not options[option]:
            options[option].append(version)
