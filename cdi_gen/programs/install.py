# SPDX-License-Identifier: Apache-2.0
"""Installs the programs that engines run: the hook, the runtime shim and the prestart hook.

The programs are installed as files of root, outside any Python environment, so that neither a user
nor an upgrade of Python changes what engines run.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import suppress

from cdi_base import HOOK, PRESTART_HOOK, RUNTIME, nvidia
from cdi_base.files import make_directory, read, replace_file
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.host import hook_program
from cdi_gen.host.roots import Root
from cdi_gen.paths import join
from cdi_gen.programs.build_root import place, require

PYTHON = "/usr/bin/python3"
"""The distribution's interpreter: it belongs to root, and keeps its path after an upgrade."""

_ISOLATED = b"/usr/bin/python3 -IS"

MAX_BYTES = 1 << 20
"""The largest module or launcher that is copied; the largest one has 40 kB."""

PROGRAMS = (HOOK, nvidia.HOOK, RUNTIME, PRESTART_HOOK)
"""The launchers. Each finds the packages in its own directory and uses nothing else."""

GENERATOR = "generator"
"""A file in the same directory with the path of `cdi-gen`, which the shim runs to read the host."""

LINKS = {
    nvidia.HOOK: nvidia.HOOK,
    nvidia.RUNTIME: RUNTIME,
    nvidia.PRESTART_HOOK: PRESTART_HOOK,
}
"""The programs of nvidia-container-toolkit, and the programs here with the same command line."""


def install(
    prefix: str = "/usr/local",
    *,
    root: str = "/",
    python: str = PYTHON,
    generator: str | None = None,
) -> str:
    """Copy the programs to ``PREFIX/libexec/cdi-gen``; return the hook's path.

    Args:
        prefix: the directory of the installation, as a path on the host.
        root: the directory that becomes ``/`` of the host (a package's build root).
        python: the interpreter in the first line of the programs.
        generator: the path of ``cdi-gen``; None: ``PREFIX/bin/cdi-gen``.

    Raises:
        UnsafeError: a user other than root could change the installed hook.
        CdiGenError: the root does not exist, or the files cannot be written.
    """
    require(root)
    directory = join(prefix, "libexec", "cdi-gen")
    target = place(root, directory)
    if not os.access(python, os.X_OK):
        raise CdiGenError(
            f"{python}: no such program",
            hint="give the path of the distribution's Python with --python FILE",
            code="CDG-P001",
            subject=python,
        )
    try:
        write_programs(target, python)
        generator_path = generator or join(prefix, "bin", "cdi-gen")
        replace_file(join(target, GENERATOR), f"{generator_path}\n".encode())
        compile_modules(target, python, directory)
    except OSError as error:
        raise CdiGenError(
            f"cannot install to {target}: {error.filename or ''}: {error.strerror}",
            hint=refusal_hint(error),
            code="CDG-P003",
        ) from error
    path = join(directory, HOOK)
    if root != "/":
        return path  # the package manager sets the owner, and provides the interpreter, later
    hook = hook_program.find(Root(), path)
    if hook is None or hook.unsafe:
        reason = hook.unsafe if hook else "the file is missing"
        raise UnsafeError(f"installed {path}, but specs cannot use it: {reason}", code="CDG-P004")
    return path


def refusal_hint(error: OSError) -> str | None:
    """Return what to do if the file system refuses; None if the reason says it."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "run the command as root, or give a build root with --root DIR"
    if error.errno == errno.EROFS:
        return (
            "on a host whose /usr cannot be written to, build a system extension, or a layer of "
            "its image: cdi-gen install --root DIR --prefix /usr --no-record"
        )
    return None


def write_programs(target: str, python: str) -> None:
    """Write the launchers and the packages that they import to a directory.

    Args:
        target: the directory.
        python: the interpreter in the first line of the launchers.

    Raises:
        OSError: the file system refuses.
        CdiGenError: a launcher of this installation is not as it should be.
    """
    for package in hook_program.PACKAGES:
        _copy_modules(_source(package), join(target, package))
    for program in PROGRAMS:
        replace_file(join(target, program), _script(program, python), mode=0o755)


def _script(program: str, python: str) -> bytes:
    """Return the text of a program's launcher, with the path of its interpreter."""
    path = launcher(program)
    script = _read(path)
    if script.count(_ISOLATED) != 1:
        raise CdiGenError(f"{path} does not start an isolated interpreter", code="CDG-P002")
    return script.replace(_ISOLATED, f"{python} -IS".encode())


def _copy_modules(source: str, target: str) -> None:
    """Copy a package and its subpackages; remove modules of an older version."""
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
    """The path of a program's launcher in this installation of cdi-gen.

    In an installed cdi-gen the launchers are in the package ``cdi_hook``; in a checkout, in the
    directory above it.
    """
    package = _source("cdi_hook")
    installed = join(package, program)
    return installed if os.path.exists(installed) else join(os.path.dirname(package), program)


def _source(package: str) -> str:
    import cdi_hook  # noqa: PLC0415 - only the path of the package is needed

    return join(os.path.dirname(os.path.dirname(os.path.abspath(cdi_hook.__file__))), package)


def link(name: str, prefix: str = "/usr/local", *, root: str = "/") -> str:
    """Link an installed program as ``PREFIX/bin/NAME``, under NVIDIA's name; return the link.

    dockerd looks in its PATH for ``nvidia-cdi-hook`` and ``nvidia-container-runtime-hook`` to
    choose an implementation of ``--gpus``. The specs of nvidia-ctk name
    ``/usr/bin/nvidia-cdi-hook``, and configurations of engines
    ``/usr/bin/nvidia-container-runtime``.

    Args:
        name: one of ``LINKS``.
        prefix: see `install`.
        root: see `install`.

    Raises:
        CdiGenError: another program has this name, or the link cannot be created.
        UnsafeError: a user other than root could change the program.
    """
    path = join(prefix, "bin", name)
    text = link_text(name)
    target = place(root, path)
    try:
        make_directory(os.path.dirname(target))
        exists = os.path.lexists(target)
        if exists and (not os.path.islink(target) or os.readlink(target) != text):
            raise CdiGenError(
                f"{target} exists and does not belong to cdi-gen; not overwritten",
                hint="perhaps it belongs to NVIDIA's package nvidia-container-toolkit-base: remove "
                "the package, or leave out the option for the link",
                code="CDG-P005",
                subject=target,
            )
        if not exists:
            os.symlink(text, target)
    except OSError as error:
        raise CdiGenError(
            f"cannot link {target}: {error.strerror}", code="CDG-P003", subject=target
        ) from error
    program = hook_program.find(Root(), path) if root == "/" else None
    if program and program.unsafe:
        raise UnsafeError(
            f"linked {path}, but engines should not run it: {program.unsafe}", code="CDG-P004"
        )
    return path


def link_text(name: str) -> str:
    """Return the text of the symbolic link under a name of NVIDIA's."""
    return f"../libexec/cdi-gen/{LINKS[name]}"


def _read(path: str) -> bytes:
    return read(path, MAX_BYTES, follow=True)


def compile_modules(target: str, python: str, directory: str) -> None:
    """Byte-compile the modules: the programs write no files and would compile at each start.

    Those of each program are also collected in one file. Until the new file is in place, a program
    that starts imports the modules of the old one. Where no new file can be made, the old one goes.

    Args:
        target: the directory with the programs.
        python: the interpreter.
        directory: the path of ``target`` on the host, without the build root.
    """
    from cdi_gen.programs import collect  # noqa: PLC0415 - imports ast

    prefixes = ["-s", target, "-p", directory]
    isolated = [python, "-I", "-S"]
    subprocess.run(
        [*isolated, "-m", "compileall", "-q", *prefixes, target], check=False, umask=0o022
    )
    collected = subprocess.run([*isolated, collect.__file__, target], check=False, umask=0o022)
    if collected.returncode:
        for name in collect.FILES:
            with suppress(FileNotFoundError):
                os.unlink(join(target, name))
