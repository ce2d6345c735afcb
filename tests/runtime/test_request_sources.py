# SPDX-License-Identifier: Apache-2.0
"""The sources of a request: environment, swarm resources, mounts, annotations.

"nvidia-ctk:" is what the NVIDIA Container Toolkit 1.20 does instead.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.requests import (
    DIRECTORY,
    MIG,
    MOUNTS,
    OLD_MIG,
    ONLY_PRIVILEGED,
    PRIVILEGED,
    UNPRIVILEGED,
    UUID,
    V,
    asked,
    config_of,
    refused,
    settings_of,
)

# Whether the environment counts.


@pytest.mark.parametrize(
    ("env", "source"),
    [
        ({V: "all"}, V),
        ({V: "none"}, V),
        ({V: "rubbish!"}, V),
        ({"CUDA_VERSION": "8.0"}, "CUDA_VERSION without NVIDIA_REQUIRE_CUDA"),
        ([f"{V}=all", f"{V}=0"], V),
    ],
)
def test_request_of_an_unprivileged_container_is_ignored_with_a_warning(
    env: dict[str, str] | list[str], source: str
) -> None:
    for capabilities in (None, {}, UNPRIVILEGED, {"bounding": None}, {"bounding": "CAP_SYS_ADMIN"}):
        request = asked(config_of(env, capabilities=capabilities), ONLY_PRIVILEGED)
        assert (request.devices, request.capabilities) == ((), ())
        (warning,) = request.warnings
        assert warning.message.startswith(f"{source} is ignored: the container is not privileged")
        assert "accept-nvidia-visible-devices-envvar-when-unprivileged = false" in warning.message
        assert (warning.code, warning.severity) == ("CDG-R110", "warning")


@pytest.mark.parametrize("env", [{}, {V: ""}, {V: "void"}, {V: " ,void, "}])
def test_no_warning_without_a_request(env: dict[str, str]) -> None:
    assert asked(config_of(env), ONLY_PRIVILEGED).warnings == ()


def test_request_of_a_privileged_container_counts() -> None:
    request = asked(config_of({V: "0"}, capabilities=PRIVILEGED), ONLY_PRIVILEGED)
    assert (request.devices, request.warnings) == (("0",), ())


def test_swarm_resources_of_an_unprivileged_container_are_ignored() -> None:
    settings = settings_of(accept_environment_unprivileged=False, swarm_resource=("A",))
    request = asked(config_of({"A": "0", V: "1"}), settings)
    assert request.devices == ()
    assert request.warnings[0].message.startswith("A is ignored")
    assert asked(config_of({"A": "0"}, capabilities=PRIVILEGED), settings).devices == ("0",)


def test_modes_and_channels_of_an_unprivileged_container_are_ignored() -> None:
    """The environment adds nothing to the device of a mount. nvidia-ctk: it brings NVSwitches and NICs."""
    env = {
        "NVIDIA_NVSWITCH": "enabled",
        "NVIDIA_IMEX_CHANNELS": "1",
        "NVIDIA_DRIVER_CAPABILITIES": "video",
    }
    settings = settings_of(accept_environment_unprivileged=False, accept_volume_mounts=True)
    request = asked(config_of(env, [f"{DIRECTORY}/0"]), settings)
    assert (request.devices, request.modes, request.imex_channels) == (("0",), (), ())
    assert request.capabilities == ("video",)
    assert [warning.message.split()[0] for warning in request.warnings] == [
        "NVIDIA_NVSWITCH",
        "NVIDIA_IMEX_CHANNELS",
    ]
    request = asked(config_of(env, [f"{DIRECTORY}/0"], capabilities=PRIVILEGED), settings)
    assert (request.modes, request.imex_channels) == (("nvswitch",), (1,))


# Swarm resources.


@pytest.mark.parametrize(
    ("env", "devices", "source"),
    [
        ({"A": "0"}, ("0",), "A"),
        ({"A": "0", V: "all"}, ("0",), "A"),
        ({"A": "0", "B": UUID}, ("0", UUID), "A, B"),
        ({"B": "0", "A": "1,0"}, ("1", "0"), "A, B"),
        ({"A": "0", "B": "0"}, ("0",), "A, B"),
        (["A=0", "B=2", "A=1"], ("1", "2"), "A, B"),
        ({"A": "0", "B": ""}, ("0",), "A, B"),
        ({"A": "0", "B": "void"}, (), "A, B"),
        ({"A": "0", "B": "none"}, ("none",), "A, B"),
        # Set, and so it counts, whatever NVIDIA_VISIBLE_DEVICES says.
        ({"A": "", V: "all"}, (), "A"),
        ({"A": "", "CUDA_VERSION": "8.0"}, (), "A"),
        ({V: "1"}, ("1",), V),
    ],
)
def test_devices_of_swarm_resources(
    env: dict[str, str], devices: tuple[str, ...], source: str
) -> None:
    request = asked(config_of(env), settings_of(swarm_resource=("A", "B")))
    assert (request.devices, request.source) == (devices, source)


def test_invalid_swarm_resources_are_rejected() -> None:
    settings = settings_of(swarm_resource=("A", "B"))
    assert "A, B: 'x!' is not a device" in refused(config_of({"A": "x!", "B": "0"}), settings)
    assert "device of another vendor" in refused(config_of({"A": "vendor.com/d=x"}), settings)


# Lists of mounts.


@pytest.mark.parametrize(
    ("below", "devices"),
    [
        (["/0"], ("0",)),
        (["/0", "/1"], ("0", "1")),
        (["/0", "/0", "/0/"], ("0",)),
        (["/all"], ("all",)),
        (["/none"], ("none",)),
        (["/void"], ()),
        (["/0", "/all"], ("all",)),
        ([f"/{UUID}"], (UUID,)),
        ([f"/{MIG}"], (MIG,)),
        ([f"/{OLD_MIG}"], (OLD_MIG,)),
        (["/0:1"], ("0:1",)),
        (["/0000:3b:00.0"], ("pci-0000-3b-00-0",)),
        (["/cdi/nvidia.com/gpu/0"], ("nvidia.com/gpu=0",)),
        (["/cdi/nvidia.com/gpu=0"], ("nvidia.com/gpu=0",)),
        (["/cdi/nvidia.com/gpu/0", "/cdi/nvidia.com/gpu=0"], ("nvidia.com/gpu=0",)),
        (["/all", "/cdi/nvidia.com/gds/all"], ("all", "nvidia.com/gds=all")),
        # What a path is, and not how it is written.
        (["//0"], ("0",)),
        (["/./0/"], ("0",)),
        (["/x/../0"], ("0",)),
        # nvidia-ctk: /var/run/nvidia-container-devices-of-mine/0 is the device "-of-mine/0".
        (["-of-mine/0"], ()),
        (["x"], ()),
        (["/../0"], ()),
        (["/..", "/../nvidia-container-devices"], ()),
        ([""], ()),
        (["/"], ()),
    ],
)
def test_devices_of_mounts(below: list[str], devices: tuple[str, ...]) -> None:
    request = asked(config_of(mounts=[DIRECTORY + each for each in below]), MOUNTS)
    assert request.devices == devices


@pytest.mark.parametrize(
    "source", ["/dev/null", "//dev/null", "/dev/./null/", "/dev/x/../null", "/../dev/null"]
)
def test_mount_of_dev_null_is_an_entry(source: str) -> None:
    config: dict[str, object] = {"mounts": [{"source": source, "destination": f"{DIRECTORY}/0"}]}
    assert asked(config, MOUNTS).devices == ("0",)


@pytest.mark.parametrize(
    "source",
    ["/dev/zero", "dev/null", "null", "", "/", "/dev", "/dev/null/x", "/x/dev/null", "tmpfs"],
)
def test_mount_of_another_source_is_not_an_entry(source: str) -> None:
    """A user's volume at this path is not a request."""
    config: dict[str, object] = {"mounts": [{"source": source, "destination": f"{DIRECTORY}/0"}]}
    assert asked(config, MOUNTS).devices == ()
    assert asked(config).warnings == ()


@pytest.mark.parametrize(
    "destination",
    ["var/run/nvidia-container-devices/0", "/x" + DIRECTORY + "/0", "/dev/null", "/0"],
)
def test_mount_elsewhere_is_not_an_entry(destination: str) -> None:
    if destination.startswith("var"):
        # Relative to /: runtimes join it so.
        assert asked(config_of(mounts=[destination]), MOUNTS).devices == ("0",)
    else:
        assert asked(config_of(mounts=[destination]), MOUNTS).devices == ()


@pytest.mark.parametrize(
    ("below", "words"),
    [
        ("/foo", "is not a device"),
        ("/0,1", "is not a device"),
        ("/cdi", "does not name a device"),
        ("/cdi/nvidia.com", "does not name a device"),
        ("/cdi/nvidia.com/gpu", "does not name a device"),
        ("/cdi/nvidia.com/gpu/0/1", "does not name a device"),
        ("/cdi/nvidia.com/gpu/a b", "does not name a device"),
        ("/cdi/nvidia.com/gpu=0/1", "does not name a device"),
        ("/imex", "is not a device"),
        ("/imex/0/1", "does not name a device"),
        ("/imex/x", "is not a number from 0 to 1048575"),
        ("/0/1", "does not name a device"),
        ("/nvidia.com/gpu=0", "does not name a device"),
        ("/" + "a" * 5000, "is not a device"),
    ],
)
def test_invalid_mount_entry_is_rejected(below: str, words: str) -> None:
    mounts = [f"{DIRECTORY}/1", DIRECTORY + below]
    assert words in refused(config_of(mounts=mounts), MOUNTS)


def test_mounts_come_before_the_environment() -> None:
    config = config_of({V: "all"}, [f"{DIRECTORY}/0"])
    assert asked(config, MOUNTS).devices == ("0",)
    assert asked(config, MOUNTS).source == f"the mounts in {DIRECTORY}"
    assert asked(config_of({V: "rubbish!"}, [f"{DIRECTORY}/0"]), MOUNTS).devices == ("0",)
    assert asked(config_of({V: "1"}), MOUNTS).devices == ("1",)


def test_mounts_that_are_not_accepted_are_ignored_with_a_warning() -> None:
    """They are not accepted by default; a host with a device plugin for them accepts them."""
    request = asked(config_of({V: "1"}, [f"{DIRECTORY}/0"]))
    assert request.devices == ("1",)
    (warning,) = request.warnings
    assert warning.message.startswith(f"the mounts in {DIRECTORY} are ignored: ")
    assert warning.message.endswith("accept-nvidia-visible-devices-as-volume-mounts = false")
    assert asked(config_of({}, [f"{DIRECTORY}/not/any"])).devices == ()


def test_reference_to_mounts_that_do_not_count_is_rejected() -> None:
    """Device plugins set it. nvidia-ctk: it becomes the name of a device."""
    config = config_of({V: DIRECTORY}, [f"{DIRECTORY}/0"])
    assert asked(config, MOUNTS).devices == ("0",)
    assert "accept-nvidia-visible-devices-as-volume-mounts = false" in refused(config)
    assert "the container has no such mounts" in refused(config_of({V: DIRECTORY}), MOUNTS)


# Annotations.


@pytest.mark.parametrize(
    ("annotations", "devices"),
    [
        ({"cdi.k8s.io/x": "nvidia.com/gpu=0"}, ("nvidia.com/gpu=0",)),
        ({"cdi.k8s.io/x": "nvidia.com/gpu=0,a.b/c=d"}, ("nvidia.com/gpu=0", "a.b/c=d")),
        # Sorted by name, as in nvidia-ctk.
        ({"cdi.k8s.io/b": "a.b/c=1", "cdi.k8s.io/a": "a.b/c=2"}, ("a.b/c=2", "a.b/c=1")),
        # nvidia-ctk: neither trimmed, nor is an empty word dropped: it is taken for "none".
        ({"cdi.k8s.io/x": " nvidia.com/gpu=0 ,, "}, ("nvidia.com/gpu=0",)),
        ({"cdi.k8s.io/x": "a.b/c=1", "cdi.k8s.io/y": "a.b/c=1"}, ("a.b/c=1",)),
        ({"cdi.k8s.io/x": "0"}, ("0",)),
        ({"cdi.k8s.io/x": ""}, ("7",)),
        ({"cdi.k8s.io": "nvidia.com/gpu=0"}, ("7",)),
        ({"xcdi.k8s.io/x": "nvidia.com/gpu=0"}, ("7",)),
        ({}, ("7",)),
    ],
)
def test_devices_of_annotations(annotations: dict[str, str], devices: tuple[str, ...]) -> None:
    config = config_of({V: "7"}, [f"{DIRECTORY}/8"], annotations)
    assert asked(config).devices == devices
    assert asked(config, annotations=False).devices == ("7",)
    if devices != ("7",):
        assert asked(config, MOUNTS).devices == devices
        assert asked(config).source.startswith("annotation 'cdi.k8s.io/")


def test_prefixes_select_annotations() -> None:
    annotations = {"a.org/x": "a.b/c=1", "b.org/x": "a.b/c=2", "cdi.k8s.io/x": "a.b/c=3"}
    config = config_of(annotations=annotations)
    settings = settings_of(annotation_prefixes=("b.org/", "a.org/"))
    assert asked(config, settings).devices == ("a.b/c=1", "a.b/c=2")
    assert asked(config, settings_of(annotation_prefixes=())).devices == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("foo", "annotation 'cdi.k8s.io/x': 'foo' is not a device"),
        ("nvidia.com/gpu=", "is not a device"),
        ("0," * (1 << 20), "longer than 1048576 bytes"),
        (7, "is not a string"),
        (None, "is not a string"),
    ],
)
def test_invalid_annotations_are_rejected(value: Any, words: str) -> None:
    config = config_of(annotations={"cdi.k8s.io/x": value})
    if words.startswith("annotation"):
        assert refused(config).startswith(words)
    assert words in refused(config)
    assert asked(config, annotations=False).devices == ()
