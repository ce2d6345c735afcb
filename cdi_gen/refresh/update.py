# SPDX-License-Identifier: Apache-2.0
"""Brings the specs up to date: writes what has changed, and removes what is not true any more.

At any moment, and after any fault, each spec file is the old one or the new one. While the driver's
libraries and its module disagree, the last good specs stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cdi_base.cdi import SPEC_DIRECTORIES
from cdi_gen.errors import CdiGenError, ExitCode, NoDriverError, UnsafeError, UsageError
from cdi_gen.refresh import freshness, lock, result
from cdi_gen.refresh import record as records
from cdi_gen.refresh.record import Record, WrittenFile
from cdi_gen.refresh.settings import TREE, Request, State
from cdi_gen.refresh.waiting import is_driver_loaded

if TYPE_CHECKING:
    from cdi_base.findings import Finding
    from cdi_gen.inventory import Inventory
    from cdi_gen.refresh.host_state import HostState
    from cdi_gen.refresh.specs import NewSpec, NewSpecs


class HeldBackError(CdiGenError):
    """The libraries and the module of the driver disagree; the last good specs stay."""

    exit_code = ExitCode.STALE
    code = "CDG-V001"


class Outcome(NamedTuple):
    """What a refresh did."""

    written: tuple[NewSpec, ...] = ()
    kept: tuple[str, ...] = ()
    """Files of ours that were right already."""
    removed: tuple[str, ...] = ()
    """Files of ours that were not true any more."""
    foreign: tuple[str, ...] = ()
    """Files that are not true any more and stay, because another program has changed them."""
    inventory: Inventory | None = None
    """None if nothing has changed since the last refresh, or there is no driver."""
    no_driver: NoDriverError | None = None
    """Why the host has no spec of GPUs."""
    is_partial: bool = False
    """Whether a broken device was left out."""
    is_clean: bool = True
    """Whether a check has nothing to say of the files of other programs; see `Record.is_clean`."""
    changes: tuple[str, ...] = ()
    """What else was changed on the host, for people: nodes, links, the driver tree."""
    findings: tuple[Finding, ...] = ()
    """Nodes and links that could not be made."""

    @property
    def is_unchanged(self) -> bool:
        """Whether nothing has changed since the last refresh."""
        return self.inventory is None and self.no_driver is None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command."""
        if self.no_driver:
            return ExitCode.NO_DRIVER
        return ExitCode.PARTIAL if self.is_partial else ExitCode.OK


def refresh(
    request: Request, *, force: bool = False, state_directory: str = records.DIRECTORY
) -> Outcome:
    """Bring the specs up to date; if several processes call it, one works and the others wait.

    Args:
        request: the settings, and the layout of the host.
        force: look at the host even if nothing seems to have changed: only NVML knows that a MIG
            device was replaced by one at the same place.
        state_directory: the directory of the record and the lock.

    Raises:
        HeldBackError: the libraries and the module disagree, and the last good specs stay.
        UsageError: this version does not have a mode of the settings.
        UnsafeError: another user could change the record, a spec or the hook program.
        CdiGenError: the host cannot be examined, or a file cannot be written.
    """
    try:
        outcome = _refresh(request, state_directory, force=force)
    except UnsafeError:
        raise  # the directory may be another user's
    except CdiGenError as error:
        result.write(error.exit_code, state_directory)
        raise
    result.write(outcome.exit_code, state_directory, is_new=not outcome.is_unchanged)
    return outcome


def _refresh(request: Request, state_directory: str, *, force: bool) -> Outcome:
    if not force and (last := _unchanged(request, state_directory)):
        return Outcome(kept=tuple(last.files))
    _require_modes(request)
    if records.load(state_directory) is None and (error := _no_driver(request)):
        return Outcome(no_driver=error)  # without creating a file
    records.prepare_directory(state_directory)
    with lock.held(state_directory):
        # Another process may have done it meanwhile.
        if not force and (last := _unchanged(request, state_directory)):
            return Outcome(kept=tuple(last.files))
        return _Update(request, state_directory).run()


def _require_modes(request: Request) -> None:
    """Reject unknown modes, before anything else.

    Raises:
        UsageError: this version does not have a mode.
    """
    from cdi_gen.generate import modes  # noqa: PLC0415 - as in `_Update.run`

    for mode in request.settings.modes:
        modes.find(mode)


def _no_driver(request: Request) -> NoDriverError | None:
    """Return why the host has no driver; None if it has one.

    Raises:
        CdiGenError: the host is of a platform that is not supported.
    """
    if is_driver_loaded(request.layout.prefix):
        return None
    from cdi_gen.host import gather  # noqa: PLC0415 - as in `_Update.run`

    try:
        gather(request.layout.where())
    except NoDriverError as error:
        return error
    return None  # it was loaded meanwhile


def _unchanged(request: Request, state_directory: str) -> Record | None:
    """Return the record if the specs are right, by attributes of files alone."""
    last = records.load(state_directory)
    if (
        last is not None
        and last.request == request.document()
        # A broken GPU may work again; nothing in procfs shows it.
        and not last.left_out
        and freshness.is_host_unchanged(last, request.layout.prefix)
        and freshness.are_files_unchanged(last)
        and freshness.is_tree_unchanged(last)
        and freshness.are_directories_unchanged(last)
    ):
        return last
    return None


class _Update:
    """One refresh, by the process that has the lock."""

    def __init__(self, request: Request, state_directory: str) -> None:
        self._request = request
        self._state_directory = state_directory
        self._last = records.load(state_directory)
        self._old = self._last.files if self._last else {}
        self._changes: list[str] = []
        self._findings: list[Finding] = []

    def run(self) -> Outcome:
        # The imports take longer than all of a refresh that finds nothing to do.
        from cdi_gen.host.driver.installed import LibrariesNotInstalledError  # noqa: PLC0415
        from cdi_gen.refresh import agreement, host_state, specs  # noqa: PLC0415

        try:
            self._make_nodes()
            host = host_state.look(self._request.layout)
        except NoDriverError as error:
            return self._without_driver(error)
        except LibrariesNotInstalledError as error:
            self._hold_back(error.message)
            raise
        prefix = self._request.layout.prefix
        reason = agreement.disagreement(host.inventory, self._last, prefix)
        if reason:
            self._hold_back(reason)
        return self._apply(host, specs.generate_all(host.inventory, self._request.settings))

    def _make_nodes(self) -> None:
        """Create device nodes and links in /dev/char, if the settings say so."""
        settings = self._request.settings
        if settings.device_nodes or settings.dev_char_symlinks:
            from cdi_gen.refresh import nodes  # noqa: PLC0415 - few hosts are configured so

            changes, findings = nodes.make(settings, self._request.layout)
            self._changes += changes
            self._findings += findings

    def _hold_back(self, reason: str) -> None:
        """End the refresh if there are specs of the loaded module that are worth keeping."""
        from cdi_gen.refresh import spec_directory  # noqa: PLC0415 - as in `run`

        kept = [path for path, file in self._old.items() if spec_directory.is_ours(path, file)]
        if kept:
            self._drop_lost_sockets(kept)
            raise HeldBackError(
                f"the specs stay as they are: {reason}",
                hint="reboot, or unload and load the nvidia modules when the update has ended; "
                "then run: cdi-gen refresh",
            )

    def _drop_lost_sockets(self, paths: list[str]) -> None:
        """Take sockets that are gone out of the specs that stay."""
        from cdi_gen.cdi import wire  # noqa: PLC0415 - as in `run`
        from cdi_gen.refresh import sockets, spec_directory, specs  # noqa: PLC0415 - as in `run`

        last = self._last
        for path in paths if last else ():
            spec = spec_directory.installed(path)
            changed = sockets.without_lost(spec, self._request.layout.prefix) if spec else None
            if last is None or changed is None:
                continue
            new = specs.NewSpec(path, changed, wire.dump(changed), "")
            digest = spec_directory.digest(new.text.encode())
            possible = WrittenFile([], [*last.files[path].digests, digest])
            last = last._replace(files={**last.files, path: possible})
            self._write_record(last)
            spec_directory.write(new)
            last.files[path] = spec_directory.written(path, [digest])
            self._write_record(last)

    def _without_driver(self, error: NoDriverError) -> Outcome:
        removed, foreign = self._remove(self._old)
        self._remove_tree()
        records.remove(self._state_directory)
        return Outcome(
            removed=removed, foreign=foreign, no_driver=error, changes=tuple(self._changes)
        )

    def _remove_tree(self) -> None:
        """Remove the driver trees, if an earlier refresh made them."""
        if self._last and self._last.tree:
            from cdi_gen import tree  # noqa: PLC0415 - as in `run`

            names = tree.remove()
            self._changes += [f"the driver tree {name} is removed" for name in names]

    def _make_tree(self, host: HostState) -> str:
        """Make the driver tree, if the specs use it; return its path, or nothing."""
        if self._request.settings.form != TREE:
            return ""
        from cdi_gen import tree  # noqa: PLC0415 - as in `run`
        from cdi_gen.generate import driver_tree  # noqa: PLC0415 - as in `run`
        from cdi_gen.refresh import specs  # noqa: PLC0415 - as in `run`

        if self._request.layout.prefix:
            raise UsageError(
                "the form tree cannot be used with --host-root: the driver tree is mounted on "
                "this host",
                hint="run the command on the host, or use the form files",
                code="CDG-U002",
                subject="--host-root",
            )
        if not tree.reaches_host(tree.ROOT):
            raise CdiGenError(
                f"the driver tree is not made: the mounts of this process stay in its own mount "
                f"namespace, and {tree.ROOT} is the host's",
                hint="run the command in the host's mount namespace: nsenter -t 1 -m; in a unit, "
                "without the options of a sandbox that give it one; or use the form files",
                code="CDG-L005",
                subject=tree.ROOT,
            )
        if not (self._last and self._last.tree):
            # A tree that no record names would stay after the last spec that mounts it.
            self._write_record(self._record(host, self._old, tree=tree.ROOT))
        options = specs.options_of("auto", self._request.settings)
        made = tree.make(driver_tree.layout(host.inventory, options))
        if made.changed:
            self._changes.append(f"the driver tree is {made.tree.path}")
        return made.tree.path

    def _clean_trees(self, tree_path: str) -> None:
        """Remove the trees that no spec uses any more."""
        if tree_path:
            from cdi_gen import tree  # noqa: PLC0415 - as in `run`

            tree.clean()
        else:
            self._remove_tree()

    def _apply(self, host: HostState, new: NewSpecs) -> Outcome:
        """Write and remove specs, between two versions of the record."""
        from cdi_gen.refresh import spec_directory  # noqa: PLC0415 - as in `run`

        for spec in new.specs:
            spec_directory.require_own_devices(spec)
        spec_directory.remove_litter(self._request.settings.output_directory)
        texts = {spec.path: spec_directory.digest(spec.text.encode()) for spec in new.specs}
        obsolete = {path: file for path, file in self._old.items() if path not in texts}
        changed = [spec for spec in new.specs if not spec_directory.has_content(spec)]
        tree_path = self._make_tree(host) if new.no_gpu is None else ""
        has_old_tree = bool(self._last and self._last.tree != tree_path)
        if changed or obsolete or has_old_tree:
            possible = self._possible(texts)
            self._write_record(self._record(host, possible, tree=tree_path))
        for spec in changed:
            spec_directory.write(spec)
        removed, foreign = self._remove(obsolete)
        self._clean_trees(tree_path)
        current = {path: spec_directory.written(path, [digest]) for path, digest in texts.items()}
        key = [] if new.no_gpu else host.key
        record = self._record(host, current, key=key, tree=tree_path)
        is_clean = self._is_clean(record)
        self._write_record(record._replace(is_clean=is_clean))
        written = tuple(changed)
        return Outcome(
            written=written,
            kept=tuple(spec.path for spec in new.specs if spec not in written),
            removed=removed,
            foreign=foreign,
            inventory=host.inventory,
            no_driver=new.no_gpu,
            is_partial=bool(host.inventory.unusable_devices) and new.has_driver_files,
            is_clean=is_clean,
            changes=tuple(self._changes),
            findings=tuple(self._findings),
        )

    def _is_clean(self, record: Record) -> bool:
        """Whether a check would have nothing to say of the files in the spec directories."""
        from cdi_gen.refresh import installed  # noqa: PLC0415 - as in `run`

        layout = self._request.layout
        directories = installed.with_own(SPEC_DIRECTORIES, self._request.settings.output_directory)
        return installed.compare(directories, layout.host_root, record.left_out).is_clean

    def _write_record(self, record: Record) -> None:
        records.write(record, self._state_directory)

    def _possible(self, texts: dict[str, str]) -> dict[str, WrittenFile]:
        """Return our files with every content that they may have if this process is killed."""
        possible = dict(self._old)
        for path, digest in texts.items():
            old = self._old[path].digests if path in self._old else []
            possible[path] = WrittenFile([], [*dict.fromkeys([*old, digest])])
        return possible

    def _record(
        self,
        host: HostState,
        files: dict[str, WrittenFile],
        *,
        key: State | None = None,
        tree: str,
    ) -> Record:
        """Return the record; without ``key``, that of a refresh that has not ended."""
        from cdi_gen.paths import parent  # noqa: PLC0415 - as in `run`
        from cdi_gen.refresh import agreement  # noqa: PLC0415 - as in `run`

        inventory, prefix = host.inventory, self._request.layout.prefix
        libraries = tuple(str(library.path) for library in inventory.libraries)
        version = inventory.require_driver().version
        directories = (*SPEC_DIRECTORIES, self._request.settings.output_directory)
        return Record(
            request=self._request.document(),
            key=key or [],
            choices=freshness.choices_document(host.choices),
            sources=host.sources,
            directories=freshness.listings(directories),
            files=files,
            driver_version=version,
            libraries=libraries,
            other_versions=agreement.other_versions(
                map(parent, libraries), libraries, version, prefix
            ),
            left_out=tuple(device.device for device in inventory.unusable_devices),
            tree=tree,
        )

    def _remove(self, files: dict[str, WrittenFile]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Remove files of ours; return those that were removed, and those that are not ours now."""
        from cdi_gen.refresh import spec_directory  # noqa: PLC0415 - as in `run`

        ours = [path for path, file in files.items() if spec_directory.is_ours(path, file)]
        foreign = [path for path in files if path not in ours and spec_directory.exists(path)]
        for path in ours:
            spec_directory.remove(path)
        return tuple(ours), tuple(foreign)
