# SPDX-License-Identifier: Apache-2.0
"""Build all that the Kubernetes lab needs, and say what takes how long: ``make test-kubernetes``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

from tests.lab import debian
from tests.lab.cache import LabUnavailableError
from tests.lab.kubernetes import nvidia_device_plugin, packages, programs
from tests.lab.kubernetes.node import ROOT


def _parts() -> dict[str, Callable[[], object]]:
    parts: dict[str, Callable[[], object]] = {
        f"root {ROOT}": partial(debian.root, ROOT),
        "packages for Python": packages.folder,
        "crictl": programs.crictl,
        "etcd": programs.etcd,
        "containerd 2.2": programs.containerd,
        "CRI-O": programs.crio,
    }
    for version in programs.VERSIONS:
        for name in ("kubelet", *programs.CONTROL_PLANE):
            parts[f"{name} {version}"] = partial(programs.kubernetes, name, version)
    parts["kubectl"] = programs.kubectl
    parts["helm"] = programs.helm
    parts["kubeconform"] = programs.kubeconform
    for name in nvidia_device_plugin.PROGRAMS:
        parts[name] = partial(nvidia_device_plugin.program, name)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.lab.kubernetes", description=__doc__)
    parser.parse_args()
    for name, build in _parts().items():
        start = time.monotonic()
        try:
            build()
        except LabUnavailableError as error:
            print(f"cdi-gen: {name}: {error}", file=sys.stderr)
        else:
            seconds = time.monotonic() - start
            if seconds >= 1:
                print(f"cdi-gen: {name}: {seconds:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
