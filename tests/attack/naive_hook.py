# SPDX-License-Identifier: Apache-2.0
"""What a hook must not be: the same command lines, done as one does them in an afternoon.

The control of the attack suite: each attack must harm this one (tests/attack/test_naive.py), or it
would prove nothing of ours. It is run in a mount namespace in which only the test's own folder can
be written to.
"""

from __future__ import annotations

import glob
import itertools
import os
import shutil
import subprocess
import sys

PARAMS = "/proc/driver/nvidia/params"
MACHINE = os.uname().machine
MUSL, MUSL_PATH = f"/lib/ld-musl-{MACHINE}.so.1", f"/etc/ld-musl-{MACHINE}.path"
CONF, DROP_IN = "/etc/ld.so.conf", "/etc/ld.so.conf.d/00-cdi-gen.conf"


def root_of(state: dict[str, str]) -> str:
    import json

    if "root" in state:
        return state["root"]
    with open(os.path.join(state["bundle"], "config.json")) as file:
        return os.path.join(state["bundle"], json.load(file)["root"]["path"])


def put(path: str, content: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w") as file:
        file.write(content)
    with open(path, "w") as file:
        file.write(content)
    os.remove(path + ".tmp")


def link(root: str, argument: str) -> None:
    target, _, path = argument.partition("::")
    place = root + path
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.lexists(place):
        os.remove(place)
    os.symlink(target, place)


def included(root: str, path: str) -> list[str]:
    """The folders of a loader's configuration, and of all that it includes."""
    found = []
    with open(path) as file:
        lines = file.read().splitlines()
    for line in lines:
        if line.startswith("include "):
            for other in sorted(glob.glob(root + line.split()[1])):
                found += included(root, other)
        else:
            found.append(line)
    return found


def update_ldcache(root: str, folders: list[str]) -> None:
    listed = included(root, root + CONF) if os.path.exists(root + CONF) else []
    links = glob.glob(f"{root}/*/*/lib*.so")
    texts = {each: os.readlink(each) for each in links if os.path.islink(each)}
    print("links", len(texts), file=sys.stderr)
    for folder in (*folders, *listed):
        for library in glob.glob(f"{root}{folder}/lib*.so*"):
            print("found", library, file=sys.stderr)
            with open(library, "rb") as file:
                file.read(4)
    for library in [each for folder in folders for each in glob.glob(f"{root}{folder}/lib*.so.1")]:
        name = os.path.basename(library)
        if any(os.path.exists(f"{root}{folder}/{name}") for folder in listed):
            link(root, f"{library.removeprefix(root)}::/etc/cdi-gen/glibc/303/{name}")
    put(root + DROP_IN, "\n".join([*folders, *listed]) + "\n")
    if os.path.exists(root + MUSL) and os.path.exists(root + MUSL_PATH):
        with open(root + MUSL_PATH, errors="replace") as file:
            put(root + MUSL_PATH + ".new", file.read() + "\n".join(folders) + "\n")
        os.rename(root + MUSL_PATH + ".new", root + MUSL_PATH)
    own = [root + path for path in ("/sbin/ldconfig", "/usr/sbin/ldconfig")]
    program = next(filter(os.path.exists, own), "ldconfig")
    subprocess.run([program, "-r", root], check=False)
    # What ldconfig keeps for itself: O-DIFF would see it in every image.
    shutil.rmtree(root + "/var", ignore_errors=True)


def disable_device_node_modification(root: str) -> None:
    if os.path.exists(PARAMS):
        with open(PARAMS) as file:
            put(root + "/run/params", file.read().replace("Files: 1", "Files: 0"))
        subprocess.run(["mount", "--bind", root + "/run/params", root + PARAMS], check=False)


def main() -> None:
    import json

    state = json.loads(sys.stdin.read())
    root = root_of(state)
    words = sys.argv[1:]
    values = list(itertools.pairwise(words))
    for option, value in values:
        if option == "--link":
            link(root, value)
    folders = [value for option, value in values if option == "--folder"]
    if folders:
        update_ldcache(root, folders)
    if "--disable-device-node-modification" in words:
        disable_device_node_modification(root)


main()
