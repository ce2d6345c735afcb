# SPDX-License-Identifier: Apache-2.0
"""Builds a config.json with a request, and reads the request."""

from __future__ import annotations

from typing import Any

import pytest

from cdi_base.errors import HookError
from cdi_runtime.config_toml.settings import Configuration
from cdi_runtime.request import Request, RequestError, read

V = "NVIDIA_VISIBLE_DEVICES"
UUID = "GPU-8d4c9b2e-1f3a-4c5d-9e6f-0123456789ab"
MIG = "MIG-8d4c9b2e-1f3a-4c5d-9e6f-0123456789ab"
OLD_MIG = f"MIG-{UUID}/1/0"
DIRECTORY = "/var/run/nvidia-container-devices"
ALL_CAPABILITIES = ("compute", "utility", "video", "graphics", "display", "ngx", "compat32")

PRIVILEGED = {"bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}
UNPRIVILEGED = {"bounding": ["CAP_CHOWN"], "effective": ["CAP_SYS_ADMIN"]}


def settings_of(**changed: Any) -> Configuration:
    settings = Configuration()
    for name, value in changed.items():
        assert hasattr(settings, name)
        setattr(settings, name, value)
    return settings


ONLY_PRIVILEGED = settings_of(accept_environment_unprivileged=False)
MOUNTS = settings_of(accept_volume_mounts=True)


def config_of(
    env: dict[str, str] | list[str] | None = None,
    mounts: list[str] | None = None,
    annotations: dict[str, str] | None = None,
    capabilities: object = None,
) -> dict[str, object]:
    """A config.json; `mounts` are destinations of mounts of /dev/null."""
    entries = [f"{name}={value}" for name, value in env.items()] if isinstance(env, dict) else env
    return {
        "ociVersion": "1.0.2",
        "process": {"env": ["PATH=/bin", *(entries or [])], "capabilities": capabilities},
        "mounts": [{"source": "/dev/null", "destination": path} for path in mounts or []],
        "annotations": annotations or {},
    }


def asked(
    config: dict[str, object],
    settings: Configuration | None = None,
    *,
    annotations: bool = True,
) -> Request:
    return read(config, settings or Configuration(), annotations=annotations)


def refused(
    config: dict[str, object],
    settings: Configuration | None = None,
    *,
    annotations: bool = True,
) -> str:
    with pytest.raises(RequestError) as caught:
        asked(config, settings, annotations=annotations)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400
    assert isinstance(caught.value, HookError)
    return message
