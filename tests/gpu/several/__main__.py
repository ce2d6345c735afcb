# SPDX-License-Identifier: Apache-2.0
"""Measures and checks cdi-gen on a host with several GPUs; it works with one GPU, too.

    sudo python3 -m tests.gpu.several [OPTIONS]

It needs root, a GPU, a C compiler, runc or crun, and the packages that cdi-gen needs; and nvidia-ctk
and nvidia-cdi-hook for the comparison. It changes no setting of a GPU. See docs/gpu/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.gpu.programs import machine
from tests.gpu.programs.container import cdi_gen
from tests.gpu.programs.forms import FORMS, environment, form, handed_on
from tests.gpu.several import (
    communication,
    gpus,
    podman_starts,
    profile,
    starts,
    times,
    usage,
    visibility,
)
from tests.gpu.several.containers import EXCHANGE, Container, Runtime
from tests.gpu.several.section import Host, Part, Section, page

PARTS: Mapping[str, Part] = {
    "times": times.times,
    "handles": times.handles,
    "containers": visibility.containers,
    "docker": visibility.docker,
    "p2p": communication.p2p,
    "all-reduce": communication.all_reduce,
    "ddp": communication.ddp,
    "starts": starts.starts,
    "profile": profile.profile,
    "podman": podman_starts.podman_starts,
    "usage": usage.usage,
}

PROGRAM = Path(__file__).with_name("inside") / "gpus.c"


def main() -> None:
    """Run the parts, and write the page."""
    options = _options()
    with (
        machine.memory_in_own_mount_namespace("tests.gpu.several") as memory,
        # On disk: a daemon does not see the mounts of this namespace.
        tempfile.TemporaryDirectory(prefix="cdi-gen-several-programs-") as disk,
    ):
        sys.exit(_all(options, memory, Path(disk)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.gpu.several", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--only", metavar="PARTS", help=f"separated by commas; of: {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--runtimes",
        metavar="NAMES",
        default="crun,runc",
        help="the first one runs the parts that compare no runtimes  [default: %(default)s]",
    )
    parser.add_argument("--rounds", type=int, default=31, help="of races  [default: %(default)s]")
    parser.add_argument(
        "--ddp-seconds", type=int, default=60, help="of training  [default: %(default)s]"
    )
    parser.add_argument(
        "--docker-image",
        default="docker.io/library/debian",
        help="an image with glibc and a shell  [default: %(default)s]",
    )
    parser.add_argument("--docker-options", default="", help="more options for docker run")
    parser.add_argument(
        "--nvidia-runtime",
        metavar="FILE",
        help="NVIDIA's nvidia-container-runtime, for the comparison",
    )
    parser.add_argument(
        "--inventory", type=Path, metavar="FILE", help="write the inventory of this host to FILE"
    )
    parser.add_argument(
        "--strace", type=Path, metavar="FILE", help="write the system calls of one hook to FILE"
    )
    parser.add_argument(
        "--load", type=Path, metavar="FILE", help="with usage: another program than PyTorch's"
    )
    parser.add_argument("--output", type=Path, default=Path("several.md"), help="[%(default)s]")
    return parser.parse_args()


def _all(options: argparse.Namespace, folder: Path, disk: Path) -> int:
    parts = _chosen(options.only)
    text = cdi_gen("inventory")
    if options.inventory:
        options.inventory.write_text(text, encoding="utf-8")
    inventory = json.loads(text)
    host = _host(options, inventory, folder, disk)
    about = list(_about(host))
    sections: list[Section] = []
    for name, part in parts.items():
        begun = time.monotonic()
        try:
            section = part(host)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            section = Section(name, (), (), (f"ended early: {type(error).__name__}: {error}",))
        except SystemExit as error:  # a program of a race failed
            section = Section(name, (), (), (f"ended early: {error}",))
        sections.append(section)
        taken = time.monotonic() - begun
        print(f"{name}: {taken:.0f} s, {len(section.faults)} faults", *section.faults, sep="\n  ")
        sys.stdout.flush()
        # Written after each part, so that an interrupted run leaves its results.
        options.output.write_text(page(about, sections), encoding="utf-8")
    return 1 if any(section.faults for section in sections) else 0


def _chosen(only: str | None) -> Mapping[str, Part]:
    if only is None:
        return PARTS
    unknown = [name for name in only.split(",") if name not in PARTS]
    if unknown:
        sys.exit(f"--only: unknown: {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    return {name: PARTS[name] for name in only.split(",")}


def _host(
    options: argparse.Namespace, inventory: dict[str, object], folder: Path, disk: Path
) -> Host:
    disk.chmod(0o755)
    compiler = ["cc", "-O1", "-o", str(disk / "gpus"), str(PROGRAM), "-ldl"]
    subprocess.run(compiler, check=True)
    listing = subprocess.run([str(disk / "gpus")], stdout=subprocess.PIPE, text=True, check=True)
    root = machine.of_this_machine(inventory, folder / "bare")
    containers = folder / "containers"
    containers.mkdir()
    volumes = {"/several": disk, EXCHANGE: communication.create_exchange(folder)}
    own = environment({}, own=True)
    runtimes = {
        name: Runtime((path,), root, containers, own, volumes)
        for name in options.runtimes.split(",")
        if (path := shutil.which(name))
    }
    if not runtimes:
        sys.exit(f"none of {options.runtimes} is in PATH")
    for name, runtime in runtimes.items():
        (outcome,) = runtime.run(Container("true"))
        if outcome.verdict != "passed":
            sys.exit(f"{name} runs no container here:\n{outcome.output}")
    forms = [form(name, folder) for name in FORMS]
    for spec_form in forms:
        if spec_form.lacking:
            print(f"{spec_form.title}: {spec_form.lacking}", flush=True)
    return Host(
        gpus=gpus.gpus_of(inventory),
        listing=gpus.parse_listing(listing.stdout),
        programs=disk,
        runtimes=runtimes,
        specs={
            spec_form.title: spec_form.specs
            for spec_form in forms
            if spec_form.specs and not spec_form.lacking
        },
        folder=containers,
        variables=handed_on(),
        rounds=options.rounds,
        ddp_seconds=options.ddp_seconds,
        docker_image=options.docker_image,
        docker_options=shlex.split(options.docker_options),
        nvidia_runtime=options.nvidia_runtime,
        strace=options.strace,
        load=options.load,
    )


def _about(host: Host) -> Iterator[str]:
    """Return the first lines of the page: this machine, and the versions."""
    for words in (
        ["nvidia-smi", "-L"],
        ["cat", "/proc/driver/nvidia/version"],
        ["uname", "-r"],
        *([*runtime.command, "--version"] for runtime in host.runtimes.values()),
        ["nvidia-ctk", "--version"],
    ):
        if shutil.which(words[0]):
            process = subprocess.run(words, capture_output=True, text=True, check=False)
            lines = process.stdout.strip().splitlines()
            yield from lines if words[0] in ("nvidia-smi", "cat") else lines[:1]
    yield f"{os.cpu_count()} CPUs"
    yield f"Python {platform.python_version()}, {platform.freedesktop_os_release()['PRETTY_NAME']}"
    yield cdi_gen("--version").strip()
    for name, value in host.variables.items():
        yield f"variable of this machine and of every container: {name}={value}"


if __name__ == "__main__":
    main()
