# SPDX-License-Identifier: Apache-2.0
"""A control plane on a node: etcd, API server, controller manager and scheduler."""

from __future__ import annotations

from pathlib import Path

from tests.lab.kubernetes import configuration, programs
from tests.lab.kubernetes.network import Api
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.process import Process
from tests.lab.kubernetes.waiting import until

SERVER = f"https://{configuration.NODE_ADDRESS}:443"
KEYS = "/etc/kubernetes/pki"
ADMIN = "/etc/kubernetes/admin.kubeconfig"

_ETCD = "http://127.0.0.1:2379"


def paths(version: str) -> dict[str, Path]:
    """Return the programs of a control plane by their places in the node.

    Raises:
        LabUnavailableError: one cannot be built here.
    """
    of_version = {name: programs.kubernetes(name, version) for name in programs.CONTROL_PLANE}
    files = {"etcd": programs.etcd(), "kubectl": programs.kubectl(), **of_version}
    return {f"/usr/local/bin/{name}": file for name, file in files.items()}


def kubeconfig(user: str) -> str:
    """Return the path in the node of a user's file."""
    return f"/etc/kubernetes/{user}.kubeconfig"


def start(node: Node) -> Api:
    """Start a control plane, and wait until its API server is ready; the API as its administrator."""
    node.run("mkdir", "-p", KEYS)
    node.run("openssl", "genrsa", "-out", f"{KEYS}/accounts.key", "2048")
    node.run("openssl", "rsa", "-in", f"{KEYS}/accounts.key", "-pubout", "-out", f"{KEYS}/accounts")
    node.inside.write(f"{KEYS}/tokens.csv", configuration.tokens())
    for user in configuration.TOKENS:
        certificate = f"{KEYS}/apiserver.crt"
        node.inside.write(kubeconfig(user), configuration.kubeconfig(user, certificate))
    node.start("etcd", *_etcd())
    node.start("kube-apiserver", *_api_server())
    api = Api(node.network, SERVER, "admin")

    def ready() -> bool:
        node.check_alive("etcd")
        node.check_alive("kube-apiserver")
        return node.network.request("GET", f"{SERVER}/readyz").text == "ok"

    until(ready, "the API server is ready")
    start_followers(node)
    return api


def start_followers(node: Node) -> list[Process]:
    """Start what needs the API server: controller manager and scheduler."""
    manager = (
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={KEYS}/accounts.key",
        f"--root-ca-file={KEYS}/apiserver.crt",
    )
    return [
        _follower(node, "controller-manager", *manager),
        _follower(node, "scheduler"),
    ]


def _follower(node: Node, name: str, *options: str) -> Process:
    usual = ("--leader-elect=false", "--bind-address=127.0.0.1")
    program = f"kube-{name}"
    return node.start(program, program, f"--kubeconfig={kubeconfig(name)}", *usual, *options)


def _etcd() -> tuple[str, ...]:
    return (
        "etcd",
        "--data-dir=/var/lib/etcd",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--unsafe-no-fsync",
    )


def _api_server() -> tuple[str, ...]:
    return (
        "kube-apiserver",
        f"--etcd-servers={_ETCD}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={configuration.NODE_ADDRESS}",
        "--secure-port=443",
        f"--cert-dir={KEYS}",
        f"--token-auth-file={KEYS}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={KEYS}/accounts",
        f"--service-account-signing-key-file={KEYS}/accounts.key",
        f"--service-cluster-ip-range={configuration.SERVICE_NETWORK}",
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
    )
