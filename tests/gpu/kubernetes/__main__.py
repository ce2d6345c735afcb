# SPDX-License-Identifier: Apache-2.0
"""Runs pods on this machine's GPUs, with a real kubelet and containerd and cdi-gen's device plugin.

    sudo python3 -m tests.gpu.kubernetes [OPTIONS]

It needs root, a GPU, a C compiler, overlayfs, what cdi-gen[kubernetes] needs, and the programs of
the Kubernetes lab, see docs/gpu/README.md. It changes no setting of a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

from tests.gpu.kubernetes.gpu_node import gpu_node
from tests.gpu.kubernetes.parts import PARTS
from tests.lab.kubernetes.configuration import STATIC_PODS
from tests.lab.kubernetes.standalone import Standalone


def main() -> None:
    """Run the parts, and write the page."""
    options = _options()
    with options.output.open("w", encoding="utf-8", buffering=1) as page:

        def write(line: str) -> None:
            page.write(line + "\n")
            print(line, flush=True)

        begin = time.monotonic()
        with gpu_node(options.programs, options.bundle) as kubernetes:
            write(f"The kubelet serves after {time.monotonic() - begin:.1f} s.")
            try:
                failed = [name for name in options.only if not _passes(name, kubernetes, write)]
            finally:
                _save_logs(kubernetes, options.output.parent)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.gpu.kubernetes", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--programs", type=Path, help="a directory with programs that this machine lacks"
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        help="the unpacked directory of make bundle, for the parts that need it",
    )
    parser.add_argument(
        "--only",
        metavar="PARTS",
        type=_parts,
        default=list(PARTS),
        help=f"separated by commas; of: {', '.join(PARTS)}",
    )
    parser.add_argument("--output", type=Path, default=Path("kubernetes.md"), help="[%(default)s]")
    return parser.parse_args()


def _parts(words: str) -> list[str]:
    names = words.split(",")
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"no such part: {name}")
    return names


def _passes(name: str, kubernetes: Standalone, write: Callable[[str], None]) -> bool:
    """Run a part; one that fails is told and does not end the others."""
    write(f"\n## {name}\n")
    begin = time.monotonic()
    try:
        for line in PARTS[name](kubernetes):
            write(line)
    except Exception:  # noqa: BLE001 - whatever it is, the other parts may work
        write(f"FAILED: {traceback.format_exc()}")
        _end_all(kubernetes)
        return False
    write(f"({time.monotonic() - begin:.1f} s)")
    return True


def _end_all(kubernetes: Standalone) -> None:
    """End the pods and programs that a failed part has left."""
    kubernetes.node.run("sh", "-c", f"rm -f {STATIC_PODS}/*.json")
    for name, process in kubernetes.node.processes.items():
        if name not in ("containerd", "kubelet") and process.returncode() is None:
            process.stop(SIGKILL)


def _save_logs(kubernetes: Standalone, folder: Path) -> None:
    """Keep the logs of kubelet and containerd beside the page."""
    for name, process in kubernetes.node.processes.items():
        if name in ("containerd", "kubelet"):
            (folder / f"{name}.log").write_text(process.text()[-2_000_000:], "utf-8", "replace")


if __name__ == "__main__":
    main()
