# SPDX-License-Identifier: Apache-2.0
"""The lowest version is that of the newest field, wherever the field is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdi_gen.cdi import versions
from cdi_gen.cdi.model import ContainerEdits, Device, DeviceNode, IntelRdt, Mount, NetDevice, Spec

PLAIN = Spec(
    cdi_version="0.3.0",
    kind="vendor.example/gpu",
    devices=(
        Device(
            name="gpu0",
            container_edits=ContainerEdits(
                env=("A=b",),
                device_nodes=(
                    DeviceNode(path="/dev/a", type="c", major=1, minor=0, uid=0, gid=44),
                ),
                mounts=(Mount(host_path="/a", container_path="/a", options=("bind",)),),
            ),
        ),
    ),
)

FIELDS = [
    ("0.4.0", ContainerEdits(mounts=(Mount(host_path="/", container_path="/", type="bind"),))),
    ("0.5.0", ContainerEdits(device_nodes=(DeviceNode(path="/dev/a", host_path="/dev/b"),))),
    ("0.7.0", ContainerEdits(additional_gids=(0,))),
    ("0.7.0", ContainerEdits(intel_rdt=IntelRdt())),
    ("1.1.0", ContainerEdits(intel_rdt=IntelRdt(schemata=("L3:0=f",)))),
    ("1.1.0", ContainerEdits(intel_rdt=IntelRdt(enable_monitoring=True))),
    ("1.1.0", ContainerEdits(net_devices=(NetDevice(host_interface_name="a", name="b"),))),
]


def test_a_plain_spec_needs_the_earliest() -> None:
    assert versions.minimum_version(PLAIN) == versions.EARLIEST == "0.3.0"
    assert versions.reasons(PLAIN) == ()


@pytest.mark.parametrize(("version", "edits"), FIELDS)
def test_edits_of_the_spec_and_of_a_device(version: str, edits: ContainerEdits) -> None:
    of_spec = replace(PLAIN, container_edits=edits)
    of_device = replace(PLAIN, devices=(*PLAIN.devices, Device(name="b", container_edits=edits)))
    assert versions.minimum_version(of_spec) == versions.minimum_version(of_device) == version
    assert versions.reasons(of_spec)[0][0] == version


@pytest.mark.parametrize(
    ("version", "spec"),
    [
        ("0.5.0", replace(PLAIN, devices=(Device(name="0"),))),
        ("0.3.0", replace(PLAIN, devices=(Device(name="gpu0"),))),
        ("0.3.0", replace(PLAIN, devices=(Device(name=""),))),
        ("0.3.0", replace(PLAIN, devices=(Device(name="٣"),))),
        ("0.6.0", replace(PLAIN, annotations=(("a", "b"),))),
        ("0.6.0", replace(PLAIN, devices=(Device(name="a", annotations=(("a", "b"),)),))),
        ("0.6.0", replace(PLAIN, kind="vendor/gpu.x")),
        ("0.3.0", replace(PLAIN, kind="vendor.example")),
    ],
)
def test_names_and_annotations(version: str, spec: Spec) -> None:
    assert versions.minimum_version(spec) == version


def test_the_claimed_version_does_not_matter() -> None:
    assert versions.minimum_version(replace(PLAIN, cdi_version="1.0.0")) == "0.3.0"


@pytest.mark.parametrize("older", versions.KNOWN_VERSIONS)
@pytest.mark.parametrize("newer", versions.KNOWN_VERSIONS)
def test_versions_compare_in_the_order_of_the_table(older: str, newer: str) -> None:
    order = versions.KNOWN_VERSIONS.index(older) - versions.KNOWN_VERSIONS.index(newer)
    compared = versions.compare(older, newer)
    assert (compared > 0, compared < 0) == (order > 0, order < 0)


def test_versions_are_numbers_not_text() -> None:
    assert versions.compare("0.10.0", "0.9.0") > 0


@pytest.mark.parametrize("version", ["", "1", "1.0", "v1.0.0", "1.0.0.0", "1.0.x", "1.0.٣", "1..0"])
def test_what_is_no_version(version: str) -> None:
    assert not versions.is_known(version)
    with pytest.raises(ValueError, match="not a version"):
        versions.compare(version, "1.0.0")
