# SPDX-License-Identifier: Apache-2.0
"""Reads config.toml of the NVIDIA Container Toolkit on the examined host."""

from __future__ import annotations

from cdi_base import nvidia
from cdi_gen.doctor.host import Host
from cdi_runtime.config_toml import configuration
from cdi_runtime.config_toml.settings import Configuration

PATH = f"/etc/{nvidia.CONFIGURATION}"


def read_configuration(host: Host) -> Configuration:
    """Return the configuration; the defaults if the host has no file.

    Raises:
        ConfigurationError: the file is not valid.
        Unseen: the file cannot be read.
    """
    content = host.read(PATH, configuration.MAX_BYTES)
    return Configuration() if content is None else configuration.parse(content, PATH)
