# SPDX-License-Identifier: Apache-2.0
"""Installs what engines run: the hook, the runtime shim and the prestart hook.

As files of root, apart from any Python environment: neither a user nor an upgrade of Python is to
decide what engines run.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess

from cdi_base import HOOK, PRESTART_HOOK, RUNTIME, nvidia
from cdi_base.files import make_directory, read, replace_file
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.host import hook_program
from cdi_gen.host.roots import Root
from cdi_gen.paths import join

PYTHON = "/usr/bin/python3"
"""The distribution's: root's own, and at the same path after an upgrade."""

_ISOLATED = b"/usr/bin/python3 -IS"

MAX_BYTES = 1 << 20
"""Of a module or launcher; the largest has 40 kB."""

PROGRAMS = (HOOK, nvidia.HOOK, RUNTIME, PRESTART_HOOK)
"""Each starts by itself: it finds the packages beside itself, and nothing else."""

GENERATOR = "generator"
"""A file beside them with the path of `cdi-gen`: the shim has it look at the host, which it cannot
do itself."""

LINKS = {
    nvidia.HOOK: nvidia.HOOK,
    nvidia.RUNTIME: RUNTIME,
    nvidia.PRESTART_HOOK: PRESTART_HOOK,
}
"""nvidia-container-toolkit's programs, and which of ours take their command lines."""


def install(
    prefix: str = "/usr/local",
    *,
    root: str = "/",
    python: str = PYTHON,
    generator: str | None = None,
) -> str:
    """Copy the programs to ``PREFIX/libexec/cdi-gen``; return the hook's path.

    Args:
        prefix: where the installation goes, as the host will see it.
        root: directory that stands for ``/`` (a package's build root).
        python: the interpreter that the programs name.
        generator: the path of ``cdi-gen``; None: ``PREFIX/bin/cdi-gen``.

    Raises:
        UnsafeError: somebody other than root could change what was installed.
        CdiGenError: the files cannot be written.
    """
    directory = join(prefix, "libexec", "cdi-gen")
    target = join(root, directory)
    if not os.access(python, os.X_OK):
        raise CdiGenError(
            f"{python}: there is no such program",
            hint="name root's Python with: --python FILE",
            code="CDG-P001",
            subject=python,
        )
    try:
        for package in hook_program.PACKAGES:
            _copy_modules(_source(package), join(target, package))
        for program in PROGRAMS:
            script = _read(launcher(program))
            if script.count(_ISOLATED) != 1:
                raise CdiGenError(
                    f"{launcher(program)} does not start an isolated interpreter", code="CDG-P002"
                )
            script = script.replace(_ISOLATED, f"{python} -IS".encode())
            replace_file(join(target, program), script, mode=0o755)
        named = generator or join(prefix, "bin", "cdi-gen")
        replace_file(join(target, GENERATOR), f"{named}\n".encode())
        _compile(target, python, directory)
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM)
        raise CdiGenError(
            f"cannot install to {target}: {error.filename or ''}: {error.strerror}",
            hint="run it as root, or name a build root with: --root DIR" if denied else None,
            code="CDG-P003",
        ) from error
    path = join(directory, HOOK)
    if root != "/":
        return path  # a package's files get their owner, and their interpreter, when installed
    found = hook_program.find(Root(), path)
    if found is None or found.unsafe:
        reason = found.unsafe if found else "it is not there"
        raise UnsafeError(f"installed, but no spec may name it: {reason}", code="CDG-P004")
    return path


def _copy_modules(source: str, target: str) -> None:
    """A package and those in it; what an older version had is removed."""
    make_directory(target)
    names = {name for name in os.listdir(source) if name != "__pycache__"}
    for name in sorted(names):
        if os.path.isdir(join(source, name)):
            _copy_modules(join(source, name), join(target, name))
        elif name.endswith(".py"):
            replace_file(join(target, name), _read(join(source, name)))
    for name in os.listdir(target):
        if name.endswith(".py") and name not in names:
            os.unlink(join(target, name))
        elif os.path.isdir(join(target, name)) and name not in names:
            shutil.rmtree(join(target, name))


def launcher(program: str = HOOK) -> str:
    """A program as it came with this package.

    It lies in ``cdi_hook``, beside the modules, in an installed cdi-gen, above them in a checkout.
    """
    package = _source("cdi_hook")
    inside = join(package, program)
    return inside if os.path.exists(inside) else join(os.path.dirname(package), program)


def _source(package: str) -> str:
    import cdi_hook  # noqa: PLC0415 - its place is all that is needed

    return join(os.path.dirname(os.path.dirname(os.path.abspath(cdi_hook.__file__))), package)


def link_as_peer(name: str, prefix: str = "/usr/local", *, root: str = "/") -> str:
    """Link an installed program as ``PREFIX/bin/NAME``; return the link's path.

    dockerd looks for ``nvidia-cdi-hook`` and ``nvidia-container-runtime-hook`` in its PATH to know
    what ``--gpus`` is to come to, the specs of nvidia-ctk name ``/usr/bin/nvidia-cdi-hook``, and
    configurations of engines ``/usr/bin/nvidia-container-runtime``.

    Args:
        name: one of ``LINKS``.
        prefix: see `install`.
        root: see `install`.

    Raises:
        CdiGenError: there is such a program already, or the link cannot be made.
        UnsafeError: somebody other than root could change it.
    """
    path = join(prefix, "bin", name)
    text = f"../libexec/cdi-gen/{LINKS[name]}"
    place = join(root, path)
    try:
        make_directory(os.path.dirname(place))
        if os.path.lexists(place) and (not os.path.islink(place) or os.readlink(place) != text):
            raise CdiGenError(
                f"{place} is there already, and not cdi-gen's",
                hint="it is NVIDIA's own, of the package nvidia-container-toolkit-base: remove "
                "that, or do without the link",
                code="CDG-P005",
                subject=place,
            )
        if not os.path.lexists(place):
            os.symlink(text, place)
    except OSError as error:
        raise CdiGenError(
            f"cannot link {place}: {error.strerror}", code="CDG-P003", subject=place
        ) from error
    found = hook_program.find(Root(), path) if root == "/" else None
    if found and found.unsafe:
        raise UnsafeError(f"linked, but no engine should run it: {found.unsafe}", code="CDG-P004")
    return path


def _read(path: str) -> bytes:
    return read(path, MAX_BYTES, follow=True)


def _compile(target: str, python: str, directory: str) -> None:
    """Byte-compile for this Python: the hook itself never writes, and would compile each time.

    Args:
        target: the directory with the program.
        python: the interpreter.
        directory: what ``target`` will be called, without the build root.
    """
    names = ["-s", target, "-p", directory]
    subprocess.run(
        [python, "-I", "-S", "-m", "compileall", "-q", *names, target], check=False, umask=0o022
    )
