# SPDX-License-Identifier: Apache-2.0
"""The spec directories as engines read them: the later one wins, a faulty file is left out.

JSON is read here; YAML the library has to turn into JSON first (`prepared`).
"""

from __future__ import annotations

import os

from cdi_hook.faults import HookError, shown
from cdi_hook.state import parse_object
from cdi_runtime import host_state, trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Document = dict[str, object]

MAX_BYTES = 16 << 20


def read(
    directories: Sequence[str],
    converted: Callable[[str], Document],
    tell: Callable[[str], object],
) -> list[list[Document]]:
    """The specs of each directory, in the order given.

    Args:
        directories: in rising priority.
        converted: gives the document of a YAML file.
        tell: takes a line for each file that is left out.
    """
    return [_of(directory, converted, tell) for directory in host_state.distinct(directories)]


def _of(
    path: str, converted: Callable[[str], Document], tell: Callable[[str], object]
) -> list[Document]:
    found: list[Document] = []
    try:
        directory = trusted.open_directory(path)
    except FileNotFoundError:
        return found
    except OSError as error:
        tell(f"warning: no spec of {shown(path)} is used: it {error.strerror}")
        return found
    try:
        for name in sorted(os.listdir(directory)):
            file = f"{path}/{name}"
            try:
                if name.endswith(".json"):
                    content = trusted.read(name, directory, MAX_BYTES)
                    found.append(parse_object(content, shown(file)))
                elif name.endswith(".yaml"):
                    found.append(converted(file))
            except (OSError, HookError) as error:
                reason = getattr(error, "strerror", None) or error
                tell(f"warning: {shown(file)} is not used: {reason}")
    finally:
        os.close(directory)
    return found


def devices_of(kind: str, directories: Sequence[Sequence[Document]]) -> list[str]:
    """The names of a kind's devices, in order, each once."""
    names: dict[str, None] = {}
    for directory in directories:
        for spec in directory:
            devices = spec.get("devices") if spec.get("kind") == kind else None
            for device in devices if isinstance(devices, list) else ():
                name = device.get("name") if isinstance(device, dict) else None
                if isinstance(name, str):
                    names[name] = None
    return [*names]
