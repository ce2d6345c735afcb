# SPDX-License-Identifier: Apache-2.0
"""Which pods get which devices by an annotation."""

from __future__ import annotations

import pytest

from cdi_gen.kubernetes.nri.requests import (
    InvalidRequestError,
    Permissions,
    RefusedError,
    requested_devices,
)

KEY = "nvidia.cdi.k8s.io"
PERMISSIONS = Permissions(
    management=frozenset({"gpu-operator"}), workload=frozenset({"batch", "batch-2"})
)


@pytest.mark.parametrize(
    ("annotations", "devices"),
    [
        ({}, ()),
        ({f"{KEY}/container.main": "nvidia.com/gpu=0"}, ("nvidia.com/gpu=0",)),
        ({f"{KEY}/container.other": "nvidia.com/gpu=0"}, ()),
        ({f"{KEY}/pod": "nvidia.com/gpu=1"}, ("nvidia.com/gpu=1",)),
        ({KEY: "nvidia.com/gpu=2"}, ("nvidia.com/gpu=2",)),
        ({f"{KEY}/pod": "nvidia.com/gpu=1", f"{KEY}/container.main": ""}, ()),
        ({f"{KEY}/pod": "nvidia.com/gpu=1", KEY: "nvidia.com/gpu=2"}, ("nvidia.com/gpu=1",)),
        (
            {KEY: " nvidia.com/gpu=1, nvidia.com/gpu=0,,nvidia.com/gpu=1"},
            ("nvidia.com/gpu=1", "nvidia.com/gpu=0"),
        ),
        ({"cdi.k8s.io/pod": "nvidia.com/gpu=0"}, ()),
        ({f"{KEY}/container.*": "nvidia.com/gpu=0"}, ()),
    ],
    ids=[
        "none",
        "container",
        "other container",
        "pod",
        "bare",
        "container wins although empty",
        "pod wins over bare",
        "list",
        "other domain",
        "no wildcard",
    ],
)
def test_annotations_are_read_as_by_nvidias_plugin(
    annotations: dict[str, str], devices: tuple[str, ...]
) -> None:
    assert requested_devices(annotations, "main") == devices


@pytest.mark.parametrize("value", ["all", "nvidia.com/gpu", "nvidia.com/gpu=../x", "=", "a b=c"])
def test_what_is_no_device_name_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequestError, match=KEY):
        requested_devices({KEY: value}, "main")


def test_a_very_long_list_is_refused() -> None:
    names = ",".join(f"nvidia.com/gpu={n}" for n in range(1025))
    with pytest.raises(InvalidRequestError, match="more than 1024 devices"):
        requested_devices({KEY: names}, "main")


@pytest.mark.parametrize(
    ("namespace", "device"),
    [
        ("gpu-operator", "management.nvidia.com/gpu=all"),
        ("gpu-operator", "nvidia.com/gpu=0"),
        ("batch", "nvidia.com/gpu=0"),
        ("batch-2", "k8s.device-plugin.nvidia.com/gpu=GPU-1"),
    ],
)
def test_a_namespace_gets_what_it_may_have(namespace: str, device: str) -> None:
    PERMISSIONS.check(namespace, device)


@pytest.mark.parametrize(
    ("namespace", "device", "message"),
    [
        ("batch", "management.nvidia.com/gpu=all", "administer all GPUs"),
        ("batch", "Management.NVIDIA.com/gpu=all", "only devices of nvidia.com"),
        ("batch", "Management.nvidia.com/gpu=all", "administer all GPUs"),
        ("batch", "x.management.nvidia.com/gpu=all", "administer all GPUs"),
        ("default", "management.nvidia.com/gpu=all", "administer all GPUs"),
        ("default", "management.nvidia.com/other=all", "administer all GPUs"),
        ("default", "nvidia.com/gpu=0", "without the scheduler"),
        ("batc", "nvidia.com/gpu=0", "without the scheduler"),
        ("", "nvidia.com/gpu=0", "without the scheduler"),
        ("gpu-operator", "vendor.com/net=0", "only devices of nvidia.com"),
        ("gpu-operator", "evilnvidia.com/gpu=0", "only devices of nvidia.com"),
        ("gpu-operator", "nvidia.com.evil.org/gpu=0", "only devices of nvidia.com"),
    ],
)
def test_a_namespace_gets_nothing_else(namespace: str, device: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message) as raised:
        PERMISSIONS.check(namespace, device)
    assert raised.value.hint


def test_every_namespace_may_be_given_workload_devices_but_no_management_devices() -> None:
    permissions = Permissions(workload=frozenset({"*"}))
    permissions.check("default", "nvidia.com/gpu=0")
    with pytest.raises(RefusedError, match="administer all GPUs"):
        permissions.check("default", "management.nvidia.com/gpu=all")


@pytest.mark.parametrize("kind", ["nvidia.com/all-gpus", "example.com/gpu"])
def test_a_management_kind_of_the_node_is_for_the_management_namespaces_alone(kind: str) -> None:
    """`nvidia-toolkit --cdi-kind` had the management spec under a name of workload devices."""
    permissions = Permissions(
        management=frozenset({"gpu-operator"}),
        workload=frozenset({"*"}),
        management_kinds=frozenset({kind}),
    )
    permissions.check("gpu-operator", f"{kind}=all")
    permissions.check("batch", "nvidia.com/gpu=0")
    for device in (f"{kind}=all", "management.nvidia.com/gpu=all"):
        with pytest.raises(RefusedError, match="administer all GPUs"):
            permissions.check("batch", device)
    with pytest.raises(RefusedError, match=r"only devices of nvidia\.com"):
        permissions.check("gpu-operator", "example.com/other=all")


def test_without_settings_nothing_is_given() -> None:
    for device in ("nvidia.com/gpu=0", "management.nvidia.com/gpu=all"):
        with pytest.raises(RefusedError):
            Permissions().check("", device)
