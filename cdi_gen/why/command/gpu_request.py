# SPDX-License-Identifier: Apache-2.0
"""Reads the value of ``--gpus``, which Docker, nerdctl and Podman understand differently."""

from __future__ import annotations

from typing import NamedTuple

from cdi_gen.why.command import comma_values

ALL = -1
"""The count that means all devices, in Docker's API too."""


class GpuRequest(NamedTuple):
    """A request for devices, as Docker's API has it (``DeviceRequests``)."""

    driver: str = ""
    number: int = 0
    """``count`` of the API."""
    devices: tuple[str, ...] = ()
    capabilities: tuple[str, ...] | None = None
    """None: no list of capabilities, which is not the same as an empty one."""
    has_options: bool = False
    key: str = ""
    """The key of a Compose file: gpus or devices."""

    @property
    def names(self) -> tuple[str, ...]:
        """The devices: those that are listed, else the first ``number``, or all."""
        if self.devices:
            return self.devices
        if self.number < 0:
            return ("all",)
        return tuple(map(str, range(self.number)))


class GpuRequestError(ValueError):
    """The program rejects the value; the message is the program's."""


def docker(value: str) -> GpuRequest:
    """The request in a value of ``docker run --gpus``, and of nerdctl's, which has the same form.

    Raises:
        GpuRequestError: Docker rejects the value.
    """
    if not value:
        raise GpuRequestError("EOF")
    try:
        fields = comma_values.split(value)
    except comma_values.CommaError as error:
        raise GpuRequestError(str(error)) from None
    request = GpuRequest()
    keys: set[str] = set()
    has_count = False
    for field in fields:
        key, equals, text = field.partition("=")
        if key in keys:
            raise GpuRequestError(f"gpu request key '{key}' can be specified only once")
        keys.add(key)
        if not equals or key == "count":
            has_count = True
            request = request._replace(number=_count(text if equals else key))
        elif key == "driver":
            request = request._replace(driver=text)
        elif key == "device":
            request = request._replace(devices=tuple(text.split(",")))
        elif key == "capabilities":
            request = request._replace(capabilities=(*text.split(","), "gpu"))
        elif key == "options":
            request = request._replace(has_options=True)
        else:
            raise GpuRequestError(f"unexpected key '{key}' in '{field}'")
    if not has_count and not request.devices:
        request = request._replace(number=1)
    return request._replace(capabilities=request.capabilities or ("gpu",))


def _count(text: str) -> int:
    if text == "all":
        return ALL
    try:
        return int(text)
    except ValueError:
        raise GpuRequestError(
            f'invalid count ({text}): value must be either "all" or an integer'
        ) from None
