# SPDX-License-Identifier: Apache-2.0
"""Specs to read and write."""

from __future__ import annotations

from cdi_gen.cdi import wire
from cdi_gen.cdi.model import ContainerEdits, Device, Spec


def spec(*names: str, kind: str = "vendor.example/gpu") -> Spec:
    edits = ContainerEdits(env=("A=b",))
    devices = tuple(Device(name=name, container_edits=edits) for name in names)
    return Spec(cdi_version="0.5.0", kind=kind, devices=devices)


SPEC = spec("0", "1")
TEXT = wire.dump(SPEC)
