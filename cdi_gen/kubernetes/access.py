# SPDX-License-Identifier: Apache-2.0
"""How a process reaches the API server: a pod by its service account, others by a kubeconfig."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cdi_base.files import read_beginning
from cdi_gen.cdi.yamltext import YamlTextError, parse
from cdi_gen.errors import CdiGenError

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
DEFAULT_NAMESPACE = "default"
MAX_BYTES = 1 << 20


class AccessError(CdiGenError):
    """The process has no usable credentials for a cluster."""

    code = "CDG-N306"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An API server, and the credentials for it."""

    server: str
    """``https://10.96.0.1:443``, perhaps with a path."""
    namespace: str = DEFAULT_NAMESPACE
    authority: bytes | None = None
    """Certificates in PEM of the authorities that may certify the server; None: the system's."""
    verified: bool = True
    server_name: str | None = None
    """The name in the server's certificate, if it is not the host name of the URL."""
    token: str = ""
    token_file: str | None = None
    """A file with the token, which another process replaces before the token expires."""
    certificate: bytes | None = None
    """The client's certificate, and its private key, in PEM."""
    proxy: str | None = None
    """The proxy that the kubeconfig names; None: as the environment says."""

    def bearer_token(self) -> str:
        """Return the token of this moment; empty if there is none.

        Raises:
            AccessError: the file of the token cannot be read.
        """
        if self.token_file is None:
            return self.token
        return _read(self.token_file).decode("ascii", "replace").strip()


def find_access(kubeconfig: str = "", environment: Mapping[str, str] = os.environ) -> Access:
    """Return the access to the cluster that the process belongs to, or that a kubeconfig names.

    Raises:
        AccessError: there is neither, or the kubeconfig is not valid.
    """
    if kubeconfig:
        return parse_kubeconfig(_read(kubeconfig), kubeconfig)
    host, port = (environment.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
    if not host or not port:
        raise AccessError(
            "the API server of the cluster is not known: this process does not run in a pod, and "
            "no kubeconfig is given",
            hint="run it in a pod, or give --kubeconfig FILE",
        )
    return Access(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=_namespace(),
        authority=_read(f"{SERVICE_ACCOUNT}/ca.crt"),
        token_file=f"{SERVICE_ACCOUNT}/token",
    )


def parse_kubeconfig(content: bytes, path: str) -> Access:
    """Return the access of the current context of a kubeconfig.

    Args:
        content: the file's content.
        path: the file, from whose directory relative paths in it start.

    Raises:
        AccessError: the file is not valid, or its user has a plugin for credentials.
    """
    try:
        document, _ = parse(content.decode())
    except (YamlTextError, UnicodeDecodeError) as error:
        raise AccessError(f"{path} is not YAML: {error}", subject=path) from error
    file = _Kubeconfig(document, path)
    context = file.named("contexts", "context", file.text(file.document, "current-context"))
    cluster = file.named("clusters", "cluster", file.text(context, "cluster"))
    user = file.named("users", "user", file.text(context, "user"))
    for method in ("exec", "auth-provider"):
        if method in user:
            raise AccessError(
                f"{path}: the user gets credentials by {method}, which is not supported",
                hint="use a kubeconfig with a token or a client certificate",
                subject=path,
            )
    certificate = file.data(user, "client-certificate")
    key = file.data(user, "client-key")
    return Access(
        server=file.text(cluster, "server").rstrip("/"),
        namespace=file.text(context, "namespace") or DEFAULT_NAMESPACE,
        authority=file.data(cluster, "certificate-authority"),
        verified=cluster.get("insecure-skip-tls-verify") is not True,
        server_name=file.text(cluster, "tls-server-name") or None,
        token=file.text(user, "token"),
        token_file=file.relative(file.text(user, "tokenFile")),
        certificate=certificate + b"\n" + key if certificate and key else None,
        proxy=file.text(cluster, "proxy-url") or None,
    )


class _Kubeconfig:
    """The tables of a kubeconfig."""

    def __init__(self, document: object, path: str) -> None:
        self._path = path
        self.document = self._table(document, "the file")

    def named(self, section: str, key: str, name: str) -> dict[str, Any]:
        """Return the entry of ``contexts``, ``clusters`` or ``users`` that has a name."""
        entries = self.document.get(section)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and entry.get("name") == name:
                return self._table(entry.get(key) or {}, f"{section}: {name}")
        raise AccessError(f"{self._path}: {section} has no entry {name!r}", subject=self._path)

    def text(self, table: dict[str, Any], key: str) -> str:
        """Return a text of a table; empty if there is none."""
        value = table.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise AccessError(f"{self._path}: {key} must be a text", subject=self._path)
        return value

    def relative(self, path: str) -> str | None:
        """Return the path of a file that the kubeconfig names; None if it names none."""
        return os.path.join(os.path.dirname(self._path), path) if path else None

    def data(self, table: dict[str, Any], key: str) -> bytes | None:
        """Return the value of ``KEY-data``, or the file that ``KEY`` names; None if neither."""
        encoded = self.text(table, f"{key}-data")
        if encoded:
            try:
                return base64.b64decode(encoded, validate=True)
            except binascii.Error as error:
                message = f"{self._path}: {key}-data is not base64"
                raise AccessError(message, subject=self._path) from error
        path = self.relative(self.text(table, key))
        return None if path is None else _read(path)

    def _table(self, value: object, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise AccessError(f"{self._path}: {name} must be a mapping", subject=self._path)
        return value


def _namespace() -> str:
    """Return the namespace of this pod."""
    try:
        return read_beginning(f"{SERVICE_ACCOUNT}/namespace", 256).decode("ascii").strip()
    except (OSError, ValueError):
        return DEFAULT_NAMESPACE


def _read(path: str) -> bytes:
    try:
        return read_beginning(path, MAX_BYTES)
    except OSError as error:
        raise AccessError(f"cannot read {path}: {error.strerror or error}", subject=path) from error
