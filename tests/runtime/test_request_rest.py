# SPDX-License-Identifier: Apache-2.0
"""Requests besides devices: capabilities, modes, IMEX channels, MIG access.

"nvidia-ctk:" is what the NVIDIA Container Toolkit 1.20 does instead.
"""

from __future__ import annotations

import pytest

from cdi_runtime.config_toml.settings import Configuration
from tests.runtime.requests import (
    ALL_CAPABILITIES,
    DIRECTORY,
    MOUNTS,
    PRIVILEGED,
    UNPRIVILEGED,
    V,
    asked,
    config_of,
    refused,
    settings_of,
)

# NVIDIA_DRIVER_CAPABILITIES.

LEGACY = {"CUDA_VERSION": "8.0"}
FEW = settings_of(supported_driver_capabilities=("utility", "video"))
WITH_MPS = settings_of(supported_driver_capabilities=("compute", "mps"))


@pytest.mark.parametrize(
    ("value", "settings", "capabilities"),
    [
        (None, None, ("compute", "utility")),
        ("", None, ("compute", "utility")),
        (" , ", None, ("compute", "utility")),
        (None, FEW, ("utility",)),
        ("all", None, ALL_CAPABILITIES),
        ("all", FEW, ("utility", "video")),
        ("compute,all", FEW, ("utility", "video")),
        ("none", None, ()),
        ("none,none", None, ()),
        ("utility", None, ("utility",)),
        ("video,compute", None, ("compute", "video")),
        ("compute,compute", None, ("compute",)),
        # nvidia-ctk: its runtime (for graphics) does not trim what its hook trims.
        (" graphics , display ,", None, ("graphics", "display")),
        ("ngx,compat32", None, ("ngx", "compat32")),
        ("mps", WITH_MPS, ("mps",)),
        ("all", WITH_MPS, ("compute", "mps")),
    ],
)
def test_driver_capabilities_of_a_list(
    value: str | None, settings: Configuration | None, capabilities: tuple[str, ...]
) -> None:
    env = {V: "0"} if value is None else {V: "0", "NVIDIA_DRIVER_CAPABILITIES": value}
    assert asked(config_of(env), settings).capabilities == capabilities


@pytest.mark.parametrize(
    ("value", "settings", "capabilities"),
    [
        (None, None, ALL_CAPABILITIES),
        (None, FEW, ("utility", "video")),
        ("", None, ("compute", "utility")),
        ("video", None, ("video",)),
    ],
)
def test_legacy_image_gets_all_driver_capabilities(
    value: str | None, settings: Configuration | None, capabilities: tuple[str, ...]
) -> None:
    env = LEGACY if value is None else {**LEGACY, "NVIDIA_DRIVER_CAPABILITIES": value}
    assert asked(config_of(env), settings).capabilities == capabilities
    assert asked(config_of({**env, V: "0"}), settings).capabilities == capabilities


@pytest.mark.parametrize(
    ("value", "settings", "words"),
    [
        ("foo", None, "'foo' is unknown; available: compute, utility, video"),
        ("utility,Compute", None, "'Compute' is unknown"),
        ("compute utility", None, "'compute utility' is unknown"),
        ("none,utility", None, "'none' cannot be combined with other capabilities"),
        (
            "compute",
            FEW,
            "'compute' is not in supported-driver-capabilities of config.toml; available: utility",
        ),
        ("mps", None, "'mps' is not in supported-driver-capabilities of config.toml"),
        ("utility", settings_of(supported_driver_capabilities=()), "available: none"),
        ("x" * 5000, None, "longer than 4096 bytes"),
    ],
)
def test_invalid_driver_capabilities_are_rejected(
    value: str, settings: Configuration | None, words: str
) -> None:
    env = {"NVIDIA_DRIVER_CAPABILITIES": value}
    message = refused(config_of({V: "0", **env}), settings)
    assert message.startswith("NVIDIA_DRIVER_CAPABILITIES")
    assert words in message
    # No error without a request for devices.
    assert asked(config_of(env), settings).devices == ()
    assert asked(config_of({V: "void", **env}), settings).capabilities == ()


# NVIDIA_GDS and its like.


@pytest.mark.parametrize(
    ("env", "modes"),
    [
        ({}, ()),
        ({"NVIDIA_GDS": "enabled"}, ("gds",)),
        ({"NVIDIA_MOFED": "enabled"}, ("mofed",)),
        ({"NVIDIA_GDRCOPY": "enabled"}, ("gdrcopy",)),
        ({"NVIDIA_NVSWITCH": "enabled"}, ("nvswitch",)),
        (
            {f"NVIDIA_{name}": "enabled" for name in ("NVSWITCH", "GDRCOPY", "MOFED", "GDS")},
            ("gds", "mofed", "gdrcopy", "nvswitch"),
        ),
        ({"NVIDIA_GDS": "disabled"}, ()),
        ({"NVIDIA_GDS": ""}, ()),
    ],
)
def test_special_modes_of_the_environment(env: dict[str, str], modes: tuple[str, ...]) -> None:
    request = asked(config_of({V: "0", **env}))
    assert (request.modes, request.warnings) == (modes, ())
    assert asked(config_of({V: "void", **env})).modes == ()


@pytest.mark.parametrize("value", ["Enabled", "true", "1", " enabled", "enabled,"])
def test_other_value_of_a_mode_is_ignored_with_a_warning(value: str) -> None:
    request = asked(config_of({V: "0", "NVIDIA_GDS": value}))
    assert request.modes == ()
    (warning,) = request.warnings
    assert (
        warning.message == f"NVIDIA_GDS is {value!r}, which is ignored: use 'enabled' or 'disabled'"
    )


# IMEX channels.

IGNORING = settings_of(accept_volume_mounts=True, features={"ignore-imex-channel-requests": True})


@pytest.mark.parametrize(
    ("value", "channels"),
    [
        (None, ()),
        ("", ()),
        ("0", (0,)),
        ("1,0", (1, 0)),
        (" 7 ,, 7 ,007", (7,)),
        ("1048575", (1048575,)),
        ("none", ()),
        # nvidia-ctk: the channel "void".
        ("void", ()),
        ("0,void", ()),
    ],
)
def test_imex_channels_of_a_list(value: str | None, channels: tuple[int, ...]) -> None:
    env = {V: "0"} if value is None else {V: "0", "NVIDIA_IMEX_CHANNELS": value}
    request = asked(config_of(env))
    assert (request.imex_channels, request.warnings) == (channels, ())
    if value:
        assert asked(config_of(env), IGNORING).imex_channels == ()
        (warning,) = asked(config_of(env), IGNORING).warnings
        assert "ignore-imex-channel-requests" in warning.message


@pytest.mark.parametrize(("value", "channels"), [("all", ()), ("all,3", (3,))])
def test_all_imex_channels_by_word_are_ignored_with_a_warning(
    value: str, channels: tuple[int, ...]
) -> None:
    """There are a million. nvidia-ctk: beside a number, `all` is a channel's name."""
    request = asked(config_of({V: "0", "NVIDIA_IMEX_CHANNELS": value}))
    assert request.imex_channels == channels
    (warning,) = request.warnings
    assert warning.message == "NVIDIA_IMEX_CHANNELS: 'all' is ignored; list channels by number"


@pytest.mark.parametrize(
    "value", ["1048576", "-1", "+1", "x", "1.0", "0x1", "٣", "²", "../0", "0 1", "99999999", "1_0"]
)
def test_invalid_imex_channel_is_rejected(value: str) -> None:
    """nvidia-ctk before 1.20: any word became part of a path."""
    message = refused(config_of({V: "0", "NVIDIA_IMEX_CHANNELS": f"0,{value}"}))
    assert "is not a number from 0 to 1048575" in message
    if "/" not in value:
        config = config_of({V: "0"}, [f"{DIRECTORY}/imex/{value}"])
        assert "is not a number from 0 to 1048575" in refused(config, MOUNTS)
    assert asked(config_of({"NVIDIA_IMEX_CHANNELS": value})).devices == ()


def test_imex_channels_of_mounts() -> None:
    mounts = [f"{DIRECTORY}/imex/{each}" for each in (5, 0, 5)]
    env = {V: "0", "NVIDIA_IMEX_CHANNELS": "9"}
    assert asked(config_of(env, mounts), MOUNTS).imex_channels == (5, 0)
    assert asked(config_of(env, mounts)).imex_channels == (9,)
    assert asked(config_of(env), MOUNTS).imex_channels == (9,)
    assert asked(config_of(env, mounts), IGNORING).imex_channels == ()
    request = asked(config_of({}, [*mounts, f"{DIRECTORY}/0"]), MOUNTS)
    assert (request.devices, request.imex_channels) == (("0",), (5, 0))
    # Channels alone are no GPU container.
    assert asked(config_of({}, mounts), MOUNTS).imex_channels == ()


# MIG.


@pytest.mark.parametrize("name", ["NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_MIG_MONITOR_DEVICES"])
@pytest.mark.parametrize(
    ("value", "capabilities", "expected"),
    [
        ("all", PRIVILEGED, True),
        (" all ,", PRIVILEGED, True),
        ("", PRIVILEGED, False),
        ("", None, False),
        # nvidia-ctk: a panic, its stack in the engine's log.
        ("all", None, "is only for privileged containers (CAP_SYS_ADMIN)"),
        ("all", UNPRIVILEGED, "is only for privileged containers (CAP_SYS_ADMIN)"),
        ("0", None, "is only for privileged containers (CAP_SYS_ADMIN)"),
        ("0", PRIVILEGED, "must be 'all', not '0'"),
        ("all,0", PRIVILEGED, "must be 'all', not 'all,0'"),
    ],
)
def test_mig_access_is_for_privileged_containers(
    name: str, value: str, capabilities: object, expected: bool | str
) -> None:
    config = config_of({V: "all", name: value}, capabilities=capabilities)
    if isinstance(expected, str):
        assert refused(config) == f"{name} {expected}"
    else:
        request = asked(config)
        found = {
            "NVIDIA_MIG_CONFIG_DEVICES": request.mig_config,
            "NVIDIA_MIG_MONITOR_DEVICES": request.mig_monitor,
        }
        assert found.pop(name) is expected
        assert [*found.values()] == [False]


# What is no config.json.


@pytest.mark.parametrize(
    "config",
    [
        {}, {"process": None}, {"process": {}}, {"process": {"env": None}}, {"mounts": None},
        {"mounts": []}, {"mounts": [{}]}, {"annotations": None},
        {"process": {"env": [], "capabilities": []}},
        {"mounts": [{"source": 1, "destination": None}]},
    ],
)  # fmt: skip
def test_sparse_config_json_has_no_request(config: dict[str, object]) -> None:
    assert asked(config, MOUNTS).devices == ()


@pytest.mark.parametrize(
    "config",
    [
        {"process": []}, {"process": "x"}, {"process": {"env": {}}}, {"process": {"env": [1]}},
        {"process": {"env": "A=b"}}, {"mounts": {}}, {"mounts": ["x"]}, {"mounts": [None]},
        {"annotations": []}, {"annotations": "x"},
    ],
)  # fmt: skip
def test_invalid_config_json_is_rejected(config: dict[str, object]) -> None:
    assert refused(config, MOUNTS).startswith("config.json: ")
