# SPDX-License-Identifier: Apache-2.0
"""Small container images that differ in what matters to a GPU container: the C library, where
its loader looks, whether there is an ldconfig, and whether there is a shell.

They are made of single Debian packages, and each has the program ``/probe`` (see probe.c).
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.lab import debian
from tests.lab.cache import LabUnavailableError, cached, require_root

_PROBE = Path(__file__).with_name("probe.c")
_PACKAGES = (
    "busybox-static",
    "libc-bin",
    "libc6",
    # The 64-bit C library of 32-bit systems: not built for multiarch, its loader looks in
    # /lib64 and /usr/lib64 first, as on Red Hat's systems.
    "libc6-amd64:i386",
    "musl",
    "musl-dev",
)
_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


def images() -> dict[str, Path]:
    """An archive of each image, by its short name, to load with ``podman load -i``.

    The image in the archive is called ``localhost/NAME:latest``. The name ``all`` is of one
    archive with every image in it; ``pause`` is one whose container waits, for CRI's pods.

    Raises:
        LabUnavailableError: they are not in the cache and cannot be built here.
    """
    recipe = Path(__file__).read_text("utf-8") + _PROBE.read_text("utf-8")
    folder = cached("images", recipe, _build)
    return {name: folder / f"{name}.tar" for name in (*_TREES, "all", "pause")}


def archive(trees: Mapping[str, Path], to: Path, *, command: Sequence[str] = ("/probe",)) -> None:
    """Write folders as images ``localhost/NAME:latest`` into one docker-archive."""
    manifest = []
    with tarfile.open(to, "w") as out:
        for name, tree in trees.items():
            layer = _layer(tree)
            digest = hashlib.sha256(layer).hexdigest()
            config = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": {"Env": list(_ENVIRONMENT), "Cmd": list(command)},
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
                    "history": [{"created_by": f"tests/lab/images.py {name}"}],
                }
            ).encode()
            config_name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(out, config_name, config)
            _add(out, f"{digest}.tar", layer)
            manifest.append(
                {
                    "Config": config_name,
                    "RepoTags": [f"localhost/{name}:latest"],
                    "Layers": [f"{digest}.tar"],
                }
            )
        _add(out, "manifest.json", json.dumps(manifest).encode())


def _debian(tree: Path, packages: Mapping[str, Path]) -> None:
    """Debian 12: merged /usr, multiarch folders, ld.so.conf.d, ld.so.cache."""
    _skeleton(tree)
    _merge_usr(tree)
    _copy(packages["libc6"], tree)
    _copy(packages["libc-bin"], tree, "etc", "sbin/ldconfig")
    _busybox(tree, packages)
    _write(tree, "etc/debian_version", "12.0\n")
    _os_release(tree, "debian", "12", "")
    subprocess.run([str(tree / "sbin/ldconfig"), "-r", str(tree)], check=True)


def _rhel(tree: Path, packages: Mapping[str, Path]) -> None:
    """Red Hat's layout: everything 64-bit in /usr/lib64, no multiarch folder."""
    _skeleton(tree)
    _merge_usr(tree)
    _copy(packages["libc6-amd64"], tree, "lib64")
    _copy(packages["libc-bin"], tree, "sbin/ldconfig")
    _busybox(tree, packages)
    # The last two lines are what Red Hat's ldconfig knows without being told; this one does not.
    _write(tree, "etc/ld.so.conf", "include ld.so.conf.d/*.conf\n/lib64\n/usr/lib64\n")
    (tree / "etc/ld.so.conf.d").mkdir()
    _write(tree, "etc/redhat-release", "Red Hat Enterprise Linux release 9.4 (Plow)\n")
    _os_release(tree, "rhel", "9.4", "fedora")
    subprocess.run([str(tree / "sbin/ldconfig"), "-r", str(tree)], check=True)


def _alpine(tree: Path, packages: Mapping[str, Path]) -> None:
    """Alpine's layout: musl in /lib, no merged /usr, an ldconfig that does nothing."""
    _skeleton(tree)
    for folder in ("bin", "lib", "sbin", "usr/lib", "usr/local/lib"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(_musl(packages), tree / "lib/ld-musl-x86_64.so.1")
    (tree / "lib/libc.musl-x86_64.so.1").symlink_to("ld-musl-x86_64.so.1")
    _busybox(tree, packages)
    _write(tree, "sbin/ldconfig", "#!/bin/sh\nexit 0\n")
    (tree / "sbin/ldconfig").chmod(0o755)
    _write(tree, "etc/alpine-release", "3.20.0\n")
    _os_release(tree, "alpine", "3.20.0", "")


def _distroless(tree: Path, packages: Mapping[str, Path]) -> None:
    """Debian's C library and nothing else: no shell, no ldconfig, no ld.so.conf, no ld.so.cache."""
    _skeleton(tree)
    wanted = ("ld-linux-x86-64", "libc", "libdl", "libm", "libpthread", "librt")
    multiarch = "lib/x86_64-linux-gnu"
    for file in sorted((packages["libc6"] / multiarch).iterdir()):
        if file.name.partition(".")[0] in wanted:
            _copy(packages["libc6"], tree, f"{multiarch}/{file.name}")
    _copy(packages["libc6"], tree, "lib64")
    _os_release(tree, "debian", "12", "")


_TREES: dict[str, Callable[[Path, Mapping[str, Path]], None]] = {
    "debian": _debian,
    "rhel": _rhel,
    "alpine": _alpine,
    "distroless": _distroless,
}


def _build(folder: Path) -> None:
    require_root()
    packages = debian.unpack(_PACKAGES, folder / "packages")
    compilers = {"alpine": _compile_with_musl}
    trees = {}
    for name, fill in _TREES.items():
        trees[name] = tree = folder / "trees" / name
        tree.mkdir(parents=True)
        fill(tree, packages)
        compilers.get(name, _compile)(tree / "probe", packages)
        # A C library older than the compiler's would show here and not in some later test.
        subprocess.run(
            ["chroot", str(tree), "/probe", "stat", "/"], check=True, stdout=subprocess.DEVNULL
        )
        archive({name: tree}, folder / f"{name}.tar")
    archive(trees, folder / "all.tar")
    archive({"pause": trees["distroless"]}, folder / "pause.tar", command=("/probe", "pause", "-"))
    shutil.rmtree(folder / "packages")
    shutil.rmtree(folder / "trees")


def _compile(program: Path, _: Mapping[str, Path]) -> None:
    _cc("-o", str(program), str(_PROBE), "-ldl")


def _compile_with_musl(program: Path, packages: Mapping[str, Path]) -> None:
    place = packages["musl-dev"] / "usr/lib/x86_64-linux-musl"
    include = packages["musl-dev"] / "usr/include/x86_64-linux-musl"
    _cc(
        *("-nostdinc", "-isystem", str(include), "-no-pie", "-fno-stack-protector"),
        *("-nostdlib", "-Wl,-dynamic-linker=/lib/ld-musl-x86_64.so.1"),
        *("-o", str(program), str(place / "crt1.o"), str(place / "crti.o"), str(_PROBE)),
        # By name, not by path: the path would become a needed library of the program.
        *("-L", str(_musl(packages).parent), "-lc", str(place / "crtn.o")),
    )


def _cc(*arguments: str) -> None:
    try:
        subprocess.run(
            ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-s", *arguments], check=True
        )
    except FileNotFoundError:
        raise LabUnavailableError(
            "the lab compiles its probe with a C compiler, and cc is not here"
        ) from None


def _musl(packages: Mapping[str, Path]) -> Path:
    return packages["musl"] / "lib/x86_64-linux-musl/libc.so"


def _skeleton(tree: Path) -> None:
    for folder in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"):
        (tree / folder).mkdir()
    (tree / "tmp").chmod(0o1777)
    _write(tree, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    _write(tree, "etc/group", "root:x:0:\n")


def _merge_usr(tree: Path) -> None:
    for folder in ("bin", "lib", "lib64", "sbin"):
        (tree / "usr" / folder).mkdir()
        (tree / folder).symlink_to(f"usr/{folder}")


def _busybox(tree: Path, packages: Mapping[str, Path]) -> None:
    _copy(packages["busybox-static"], tree, "bin/busybox")
    busybox = tree / "bin/busybox"
    listed = subprocess.run([str(busybox), "--list"], check=True, capture_output=True, text=True)
    for applet in listed.stdout.split():
        if not (tree / "bin" / applet).exists():
            (tree / "bin" / applet).symlink_to("busybox")


def _os_release(tree: Path, name: str, version: str, like: str) -> None:
    _write(tree, "etc/os-release", f'ID={name}\nVERSION_ID="{version}"\nID_LIKE="{like}"\n')


def _copy(package: Path, tree: Path, *paths: str) -> None:
    """Copy files or folders of an unpacked package, or all of it, minus what no image needs."""
    for path in paths or tuple(entry.name for entry in package.iterdir()):
        source, target = package / path, tree / path
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(
                source,
                target,
                symlinks=True,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("doc", "gconv", "lintian", "locale"),
            )
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _write(tree: Path, path: str, text: str) -> None:
    (tree / path).write_text(text, "ascii")


def _layer(tree: Path) -> bytes:
    """A tar of a folder, root's and of no time, so that the same image has the same digest."""

    def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as layer:
        for path in sorted(tree.iterdir()):
            layer.add(path, path.name, filter=anonymous)
    return out.getvalue()


def _add(out: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    out.addfile(entry, io.BytesIO(content))
