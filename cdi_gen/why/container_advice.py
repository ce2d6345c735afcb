# SPDX-License-Identifier: Apache-2.0
"""The commands that mend a container, by its engine; pure."""

from __future__ import annotations

import shlex

from cdi_gen.why.container_facts import Facts


def restart(facts: Facts) -> str:
    """Return the command that starts the container again; the runtime then sets its rules."""
    origin = facts.examination.origin
    name = shlex.quote(facts.title)
    if origin.pod:
        namespace, pod = shlex.quote(origin.pod.namespace), shlex.quote(origin.pod.name)
        return f"kubectl -n {namespace} delete pod {pod}"
    if origin.engine in {"docker", "podman", "nerdctl"}:
        return f"{_sudo(facts)}{origin.engine} restart {name}"
    if origin.engine in {"runc", "crun"} and origin.bundle:
        runtime = origin.engine
        bundle = shlex.quote(origin.bundle)
        option = "--systemd-cgroup " if _is_in_scope(facts) else ""
        return (
            f"sudo {runtime} delete --force {name} && "
            f"sudo {runtime} {option}run --detach --bundle {bundle} {name}"
        )
    return f"restart the container {name}"


def create_again(facts: Facts) -> str:
    """Return how to let the engine read the specs again: most do whenever a container starts."""
    origin = facts.examination.origin
    if origin.engine in {"runc", "crun"} and origin.bundle:
        config = shlex.quote(f"{origin.bundle}/config.json")
        return f"write {config} again without devices, then: {_inject(facts)} && {restart(facts)}"
    if facts.examination.container is None and origin.engine in {"docker", "podman", "nerdctl"}:
        return f"{_sudo(facts)}{origin.engine} start {shlex.quote(facts.title)}"
    return restart(facts)


def by_cdi(facts: Facts) -> str:
    """Return how to give the devices by CDI: the runtime and systemd then know them."""
    origin = facts.examination.origin
    options = _options(facts)
    if origin.engine in {"runc", "crun"} and origin.bundle:
        config = shlex.quote(f"{origin.bundle}/config.json")
        commands = f"{_inject(facts)} && {restart(facts)}"
        return f"{commands}, after the prestart hook is removed from {config}"
    if origin.engine == "docker":
        return (
            f"now: sudo docker restart {shlex.quote(facts.title)}; for good: create the container "
            f"with docker run {options} instead of --gpus or --runtime=nvidia"
        )
    return f"{restart(facts)}; for good: give the devices by CDI: {options}"


def recreate(facts: Facts) -> str:
    """Return how to create the container again, with the devices."""
    origin = facts.examination.origin
    options = _options(facts)
    if origin.engine in {"docker", "podman", "nerdctl"}:
        return f"{_sudo(facts)}{origin.engine} run {options} …"
    if origin.engine in {"runc", "crun"} and origin.bundle:
        return f"{_inject(facts)} && {restart(facts)}"
    return f"give the devices by CDI: {options}"


def _inject(facts: Facts) -> str:
    bundle = shlex.quote(facts.examination.origin.bundle)
    return f"sudo cdi-gen inject {_options(facts)} --in-place {bundle}"


def _options(facts: Facts) -> str:
    names = facts.names
    if not names:
        value = facts.requested_by_variable or "all"
        names = tuple(f"nvidia.com/gpu={item}" for item in value.split(",") if item)
    return " ".join(f"--device {shlex.quote(name)}" for name in names)


def _sudo(facts: Facts) -> str:
    """Rootless engines are called by their user."""
    origin = facts.examination.origin
    is_rootless = origin.state.startswith("/run/user/") or origin.bundle.startswith("/home/")
    return "" if is_rootless else "sudo "


def _is_in_scope(facts: Facts) -> bool:
    container = facts.examination.container
    return container is not None and any(
        path.partition(".scope")[1] for _, path in container.first.groups
    )
