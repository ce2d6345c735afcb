# SPDX-License-Identifier: Apache-2.0
"""Runs cdi-gen on a fake host: ``python -m tests.host 550-8gpu list -o wide``.

Without a command it prints the root directory of the host, and without a host it lists the hosts.
"""

from __future__ import annotations

import os
import sys

from tests.fakehost import hosts
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.host.looking import SOURCES, driver_root_of


def description(host: hosts.Host) -> str:
    """Return the driver, the layout and the GPUs of a host in a few words."""
    models = dict.fromkeys(gpu.model.name for gpu in host.gpus)
    gpus = f"{len(host.gpus)} x {', '.join(models)}" if host.gpus else "no GPU"
    return f"driver {host.driver}, layout {host.layout}, {gpus}"


def command(fake: hosts.FakeHost, words: list[str]) -> list[str]:
    """Return the command line of cdi-gen that reads the fake host instead of this machine."""
    options = ("--host-root", str(fake.root), "--driver-root", driver_root_of(fake))
    return [sys.executable, "-m", "cdi_gen", *words, *options]


def main() -> None:
    """List the hosts, print the root directory of a host, or execute cdi-gen on a host."""
    if len(sys.argv) == 1:
        for name, host in hosts.HOSTS.items():
            print(f"{name:<16}{description(host)}")
        return
    _, name, *words = sys.argv
    if name not in hosts.HOSTS:
        sys.exit(f"{name}: no such fake host; list them with: python -m tests.host")
    try:
        fake = hosts.cached(name)
    except DriverRootUnavailableError as error:
        sys.exit(f"fake host {name} cannot be built: {error}")
    if not words:
        print(fake.root)
        return
    argv = command(fake, words)
    os.execve(sys.executable, argv, os.environ | {"PYTHONPATH": SOURCES})


if __name__ == "__main__":
    main()
