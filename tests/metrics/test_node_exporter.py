# SPDX-License-Identifier: Apache-2.0
"""Beside node_exporter, which is built with Prometheus's exporter-toolkit: the same web configuration
file has the same effect; and its textfile collector reads what `cdi-gen metrics` writes."""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import bcrypt
import pytest

from cdi_gen.metrics.exposition import render
from cdi_gen.metrics.families import families
from cdi_gen.metrics.pages import Pages
from cdi_gen.metrics.textfile import Textfile
from cdi_gen.metrics.web.config_file import WebConfigError
from cdi_gen.metrics.web.web_config import WebConfigFile
from tests.kubernetes.kubelet import wait_until
from tests.metrics.serving import Authority, get, running
from tests.unit.metrics import snapshots

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
USERS = f"basic_auth_users:\n  alice: '{HASH}'\n"
PHP_USERS = USERS.replace("$2b$", "$2y$")
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
CLIENTS = f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
IF_GIVEN = CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")
NO_HTTP2 = "http_server_config:\n  http2: false\n"
"""Go's HTTP/2 demands certain cipher suites."""
SUITE = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    authority.certificate("server", "DNS:localhost,IP:127.0.0.1")
    authority.certificate("client", "DNS:prometheus.example,IP:2001:db8::1,email:a@example.com")
    (authority.directory / "empty").touch()
    return authority


@pytest.fixture
def write(authority: Authority, tmp_path: Path) -> Callable[[str], Path]:
    """Write a web configuration beside copies of the certificates."""
    for path in authority.directory.iterdir():
        shutil.copy(path, tmp_path)

    def written(text: str) -> Path:
        path = tmp_path / "web.yml"
        path.write_text(text)
        return path

    return written


class NodeExporter:
    """node_exporter while it runs, or after it has refused to."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def port(self) -> int:
        """The port that it has chosen; 0 if it has none yet."""
        ports = re.findall(
            r"TLS is (?:en|dis)abled.* address=127\.0\.0\.1:(\d+)", self._log.read_text()
        )
        return int(ports[0]) if ports else 0


@contextlib.contextmanager
def node_exporter(program: Path, folder: Path, *options: str) -> Iterator[NodeExporter]:
    """Start it, and wait until it serves or has ended."""
    log = folder / "node_exporter.log"
    words = ("--web.listen-address=127.0.0.1:0", "--collector.disable-defaults", *options)
    with log.open("wb") as stream:
        process = subprocess.Popen([program, *words], stdout=stream, stderr=stream)
    exporter = NodeExporter(process, log)
    try:
        wait_until(lambda: exporter.port or exporter.has_ended)
        yield exporter
    finally:
        process.kill()
        process.wait()


FILES = {
    "empty": ("", True),
    "no keys": ("{}\n", True),
    "empty sections": ("tls_server_config:\nbasic_auth_users:\n", True),
    "tls": (TLS, True),
    "clients": (CLIENTS, True),
    "if given": (IF_GIVEN, True),
    "request": (f"{TLS}  client_auth_type: RequestClientCert\n", True),
    "sans": (f"{CLIENTS}  client_allowed_sans: [prometheus.example]\n", True),
    "versions": (f"{TLS}  min_version: TLS10\n  max_version: TLS13\n", True),
    "suites": (f"{TLS}  cipher_suites: [{SUITE}, TLS_AES_128_GCM_SHA256]\n{NO_HTTP2}", True),
    "curve": (f"{TLS}  curve_preferences: [CurveP384]\n", True),
    "order": (f"{TLS}  prefer_server_cipher_suites: false\n", True),
    "http2": ("http_server_config:\n  http2: false\n", True),
    "headers": ("http_server_config:\n  headers:\n    X-Frame-Options: deny\n", True),
    "users": (USERS, True),
    "users by PHP": (PHP_USERS, True),
    "rate": ("rate_limit:\n  interval: 1s\n  burst: 2\n", True),
    "rate off": ("rate_limit:\n  interval: 0s\n", True),
    "unknown section": ("tls_config:\n  cert_file: server.pem\n", False),
    "unknown key": (f"{TLS}  certificate: server.pem\n", False),
    "unknown key of http": ("http_server_config:\n  http3: true\n", False),
    "unknown key of rate": ("rate_limit:\n  rate: 1\n", False),
    "twice": (f"{TLS}  key_file: server.key\n", False),
    "list": ("- a\n", False),
    "not YAML": ("a: [\n", False),
    "no key": ("tls_server_config:\n  cert_file: server.pem\n", False),
    "no certificate": ("tls_server_config:\n  key_file: server.key\n", False),
    "no file": (TLS.replace("server.pem", "none.pem"), False),
    "empty certificate": (TLS.replace("server.pem", "empty"), False),
    "empty key": (TLS.replace("server.key", "empty"), False),
    "other key": (TLS.replace("server.key", "client.key"), False),
    "type": (f"{TLS}  client_auth_type: Verify\n", False),
    "ca without type": (f"{TLS}  client_ca_file: ca.pem\n", False),
    "no ca": (CLIENTS.replace("ca.pem", "none.pem"), False),
    "version": (f"{TLS}  min_version: TLS14\n", False),
    "suite": (f"{TLS}  cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384]\n", False),
    "unknown curve": (f"{TLS}  curve_preferences: [secp384r1]\n", False),
    "header": ("http_server_config:\n  headers:\n    Server: a\n", False),
    "value of a header": ("http_server_config:\n  headers:\n    X-Frame-Options: a\n", False),
    "not hashed": ("basic_auth_users:\n  alice: secret\n", False),
    "duration": ("rate_limit:\n  interval: 1 s\n  burst: 1\n", False),
}
"""Web configurations, and whether a program starts with them."""


@pytest.mark.parametrize("name", FILES)
def test_both_accept_the_same_files(
    node_exporter_program: Path, write: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    text, is_accepted = FILES[name]
    path = write(text)
    try:
        WebConfigFile(str(path))
        accepts = True
    except WebConfigError:
        accepts = False
    assert accepts == is_accepted
    with node_exporter(node_exporter_program, tmp_path, f"--web.config.file={path}") as exporter:
        assert exporter.has_ended != is_accepted


STRICTER = {
    # Newer releases of exporter-toolkit refuse these two as well.
    "sans without type": f"{TLS}  client_allowed_sans: [a]\n",
    "sans if given": f"{IF_GIVEN}  client_allowed_sans: [a]\n",
    "any certificate": f"{TLS}  client_auth_type: RequireAnyClientCert\n",
    "two curves": f"{TLS}  curve_preferences: [X25519, CurveP256]\n",
    "no burst": "rate_limit:\n  interval: 1s\n",
    "versions in the wrong order": f"{TLS}  min_version: TLS13\n  max_version: TLS12\n",
    "ca that is none": CLIENTS.replace("ca.pem", "server.key"),
}
"""What only exporter-toolkit accepts; docs/metrics-service.md says so."""


@pytest.mark.parametrize("name", STRICTER)
def test_some_files_are_refused_that_exporter_toolkit_accepts(
    node_exporter_program: Path, write: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    path = write(STRICTER[name])
    with pytest.raises(WebConfigError):
        WebConfigFile(str(path))
    with node_exporter(node_exporter_program, tmp_path, f"--web.config.file={path}") as exporter:
        assert not exporter.has_ended


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


REQUESTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("GET", "/metrics", {}),
    ("GET", "/metrics", basic("alice", "secret")),
    ("GET", "/metrics", basic("alice", "wrong")),
    ("GET", "/metrics", basic("bob", "secret")),
    ("GET", "/metrics", basic("alice", "secret" + "a" * 80)),
    ("GET", "/metrics", {"Authorization": "basic YWxpY2U6c2VjcmV0"}),
    ("GET", "/metrics", {"Authorization": "Basic YWxpY2U6c2VjcmV0 "}),
    ("GET", "/metrics", {"Authorization": "Basic YWxpY2U="}),
    ("GET", "/metrics", {"Authorization": "Basic !"}),
    ("GET", "/metrics", {"Authorization": "Bearer YWxpY2U6c2VjcmV0"}),
    ("HEAD", "/metrics", basic("alice", "secret")),
)
COMPARED = {"www-authenticate", "x-frame-options", "strict-transport-security"}
HEADERS = (
    "http_server_config:\n  headers:\n    X-Frame-Options: deny\n"
    "    Strict-Transport-Security: max-age=1\n"
)


def compared(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    pairs = [(name.lower(), value) for name, value in headers.items()]
    return sorted(pair for pair in pairs if pair[0] in COMPARED)


@pytest.mark.parametrize(
    "text",
    ["{}\n", USERS, PHP_USERS, USERS + HEADERS, HEADERS],
    ids=["nothing", "users", "users-of-php", "users-and-headers", "headers"],
)
def test_both_answer_the_same_clients(
    node_exporter_program: Path, write: Callable[[str], Path], tmp_path: Path, text: str
) -> None:
    path = write(text)

    def answers(port: int) -> list[tuple[object, ...]]:
        found = [get(port, target, headers, method=method) for method, target, headers in REQUESTS]
        return [(one.status, *compared(one.headers)) for one in found]

    with (
        node_exporter(node_exporter_program, tmp_path, f"--web.config.file={path}") as exporter,
        running(web_config=str(path)) as server,
    ):
        assert answers(server.port) == answers(exporter.port)


@pytest.mark.parametrize(
    "text",
    [
        TLS,
        CLIENTS,
        IF_GIVEN,
        f"{TLS}  client_auth_type: RequestClientCert\n",
        *(
            f"{CLIENTS}  client_allowed_sans: ['{name}']\n"
            for name in ("prometheus.example", "2001:db8::1", "a@example.com", "other.example")
        ),
        f"{TLS}  min_version: TLS13\n",
        f"{TLS}  max_version: TLS12\n  cipher_suites: [{SUITE}]\n{NO_HTTP2}",
        f"{TLS}  curve_preferences: [CurveP384]\n",
        TLS + USERS,
    ],
)
def test_both_accept_the_same_tls_clients(
    node_exporter_program: Path,
    authority: Authority,
    write: Callable[[str], Path],
    tmp_path: Path,
    text: str,
) -> None:
    path = write(text)
    (tmp_path / "other").mkdir()
    pair = authority.directory / "client.pem", authority.directory / "client.key"
    foreign = Authority(tmp_path / "other").certificate("client", "DNS:prometheus.example")

    def clients() -> Iterator[ssl.SSLContext]:
        for certificate in (None, pair, foreign):
            yield authority.client(certificate)
        old, curve, suite = (authority.client(pair) for _ in range(3))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        curve.set_ecdh_curve("prime256v1")
        suite.maximum_version = ssl.TLSVersion.TLSv1_2
        suite.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        yield from (old, curve, suite)

    def outcomes(port: int) -> list[int]:
        """The status for each client, or 0 if it is disconnected."""
        return [outcome(port, client) for client in clients()]

    def outcome(port: int, client: ssl.SSLContext) -> int:
        try:
            return get(port, tls=client).status
        except (ssl.SSLError, ConnectionError):
            return 0

    with (
        node_exporter(node_exporter_program, tmp_path, f"--web.config.file={path}") as exporter,
        running(web_config=str(path)) as server,
    ):
        found = outcomes(server.port)
        assert found == outcomes(exporter.port)
        assert set(found) != {0} or "other.example" in text


def test_both_refuse_requests_while_the_file_is_not_valid(
    node_exporter_program: Path, write: Callable[[str], Path], tmp_path: Path
) -> None:
    path = write("{}\n")
    with (
        node_exporter(node_exporter_program, tmp_path, f"--web.config.file={path}") as exporter,
        running(web_config=str(path)) as server,
    ):
        for text, status in (("a: b\n", 500), (USERS, 401), ("{}\n", 200)):
            write(text)
            assert get(exporter.port).status == get(server.port).status == status


def test_its_textfile_collector_serves_every_sample(
    node_exporter_program: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "textfiles"
    directory.mkdir()
    snapshot = snapshots.hostile()
    pages = Pages(lambda *_: render(families(snapshot)), 15.0)
    pages.publish(snapshot)
    Textfile(str(directory / "cdi-gen.prom"), lambda _: None).write(pages)
    options = ("--collector.textfile", f"--collector.textfile.directory={directory}")
    with node_exporter(node_exporter_program, tmp_path, *options) as exporter:
        served = get(exporter.port).body.decode()
    assert "\nnode_textfile_scrape_error 0\n" in served
    written = (directory / "cdi-gen.prom").read_text()
    samples = [
        line.partition("{")[0].partition(" ")[0] for line in written.splitlines() if line[0] != "#"
    ]
    assert len(samples) > 20
    for name in set(samples):
        assert samples.count(name) == len(re.findall(rf"^{name}[{{ ]", served, re.MULTILINE)), name
