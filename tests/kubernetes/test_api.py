# SPDX-License-Identifier: Apache-2.0
"""The client of the API server: retries, tokens, TLS, proxies, service accounts, kubeconfigs."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.kubernetes import access
from cdi_gen.kubernetes import api as api_module
from cdi_gen.kubernetes.access import Access, AccessError, find_access, parse_kubeconfig
from cdi_gen.kubernetes.api import Api, ApiError, proxy_of
from tests.kubernetes.api_server import ApiServer, api_server, kubeconfig, self_signed

NODE = "/api/v1/nodes/node-1"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        running.objects[NODE] = {"metadata": {"resourceVersion": "7"}}
        yield running


def api(server: ApiServer, **options: Any) -> Api:
    return Api(Access(server=server.url, **options), {})


class TestApi:
    def test_a_token_that_rotates_is_read_again(self, server: ApiServer, tmp_path: Path) -> None:
        token = tmp_path / "token"
        client = api(server, token_file=str(token))
        for text in ("first", "second\n"):
            token.write_text(text)
            client.request("GET", NODE)
        assert server.tokens == ["Bearer first", "Bearer second"]

    def test_a_busy_server_is_asked_again(self, server: ApiServer) -> None:
        server.faults = [(503, "busy"), (429, "slow down")]
        assert api(server).request("GET", NODE)["metadata"]["resourceVersion"] == "7"
        assert len(server.requests) == 3

    def test_a_server_that_stays_busy_is_an_error(self, server: ApiServer) -> None:
        server.faults = [(503, "busy")] * 5
        with pytest.raises(ApiError, match="busy") as refusal:
            api(server).request("GET", NODE)
        assert refusal.value.status == 503
        assert len(server.requests) == 3

    def test_a_server_that_does_not_answer_is_an_error(self) -> None:
        with pytest.raises(ApiError, match=r"http://127.0.0.1:9 does not answer: ") as refusal:
            Api(Access(server="http://127.0.0.1:9"), {}).request("GET", NODE)
        assert (refusal.value.code, refusal.value.status) == ("CDG-N307", 0)

    def test_an_answer_that_is_no_object_is_an_error(
        self, server: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "answer", lambda *_: (200, ["no object"]))
        with pytest.raises(ApiError, match="something else than an object"):
            api(server).request("GET", NODE)

    def test_an_answer_without_end_is_an_error(
        self, server: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It filled the memory of the plugin."""
        monkeypatch.setattr(api_module, "MAX_ANSWER_BYTES", 1000)
        monkeypatch.setattr(server, "answer", lambda *_: (200, {"data": "x" * 2000}))
        with pytest.raises(ApiError, match="answers with more than 1000 bytes"):
            api(server).request("GET", NODE)

    def test_a_token_that_is_no_header_is_an_error(self, server: ApiServer, tmp_path: Path) -> None:
        """http.client raises a ValueError, which ended the thread that asked."""
        (tmp_path / "token").write_text("first\nsecond")
        with pytest.raises(AccessError, match="characters that no token has"):
            api(server, token_file=str(tmp_path / "token")).request("GET", NODE)
        assert server.requests == []

    def test_a_server_is_reached_by_a_proxy(self, server: ApiServer) -> None:
        access = Access(server="http://server.invalid")
        answer = Api(access, {"HTTP_PROXY": server.url.removeprefix("http://")})
        with pytest.raises(ApiError, match="not found"):
            answer.request("GET", "/version")
        assert server.requests == [("GET", "http://server.invalid/version")]

    @pytest.mark.parametrize(
        ("environment", "proxy"),
        [
            ({}, None),
            ({"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
            ({"https_proxy": "p:1"}, "http://p:1"),
            ({"HTTP_PROXY": "http://p:1"}, None),
            ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.96.0.0/12"}, None),
            ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/16, 10.96.0.1"}, None),
            ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/16"}, "http://p:1"),
            ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
            ({"HTTPS_PROXY": ""}, None),
        ],
    )
    def test_the_proxy_of_the_environment(
        self, environment: dict[str, str], proxy: str | None
    ) -> None:
        assert proxy_of("https://10.96.0.1:443", environment) == proxy

    @pytest.mark.parametrize(
        ("pattern", "direct"),
        [("example.com", True), (".example.com", True), ("ample.com", False), ("", False)],
    )
    def test_hosts_that_need_no_proxy(self, pattern: str, direct: bool) -> None:
        environment = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": pattern}
        assert (proxy_of("https://api.example.com", environment) is None) is direct


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates")
    folder = tmp_path_factory.mktemp("certificates")
    names = ("kubernetes", "client", "other")
    return {name: self_signed(folder / name, name) for name in names}


@pytest.fixture(scope="module")
def tls(certificates: dict[str, Path]) -> Iterator[ApiServer]:
    with api_server(certificates["kubernetes"], certificates["client"]) as running:
        running.objects[NODE] = {"metadata": {}}
        yield running


class TestTls:
    def access(self, tls: ApiServer, certificates: dict[str, Path], **changes: Any) -> Access:
        options: dict[str, Any] = {
            "authority": certificates["kubernetes"].read_bytes().partition(b"-----BEGIN PRIV")[0],
            "certificate": certificates["client"].read_bytes(),
        }
        return Access(**({"server": tls.url} | options | changes))

    def test_server_and_client_have_certificates(
        self, tls: ApiServer, certificates: dict[str, Path]
    ) -> None:
        for changes in ({}, {"server_name": "kubernetes"}, {"verified": False, "authority": None}):
            client = Api(self.access(tls, certificates, **changes), {})
            assert client.request("GET", NODE) == {"metadata": {}}

    @pytest.mark.parametrize(
        "changes",
        [
            {"authority": b""},
            {"server_name": "other"},
            {"server": "https://localhost"},
            {"certificate": None},
        ],
        ids=["another authority", "another name", "another host", "no client certificate"],
    )
    def test_a_certificate_that_does_not_fit_is_an_error(
        self, tls: ApiServer, certificates: dict[str, Path], changes: dict[str, Any]
    ) -> None:
        if changes.get("authority") == b"":
            other = certificates["other"].read_bytes().partition(b"-----BEGIN PRIV")[0]
            changes = {"authority": other}
        if "server" in changes:  # the certificate is for the address, not for the name
            changes = {"server": tls.url.replace("127.0.0.1", "localhost")}
        with pytest.raises(ApiError, match="does not answer"):
            Api(self.access(tls, certificates, **changes), {}).request("GET", NODE)

    def test_a_damaged_certificate_is_an_error(
        self, tls: ApiServer, certificates: dict[str, Path]
    ) -> None:
        for changes in ({"authority": b"x"}, {"authority": b"\xff"}, {"certificate": b"x"}):
            with pytest.raises(AccessError, match="is not valid"):
                Api(self.access(tls, certificates, **changes), {})


class TestAccess:
    def test_a_kubeconfig_with_a_token(self) -> None:
        expected = Access(server="https://api:6443", namespace="n", token="secret")
        assert parse_kubeconfig(kubeconfig(), "/k") == expected

    def test_a_kubeconfig_with_files_and_data(self, tmp_path: Path) -> None:
        (tmp_path / "ca").write_bytes(b"authority")
        data = {
            f"client-{name}-data": base64.b64encode(name.encode()).decode()
            for name in ("certificate", "key")
        }
        cluster = {
            "server": "https://api", "certificate-authority": "ca", "tls-server-name": "kubernetes",
            "proxy-url": "http://proxy:3128",
        }  # fmt: skip
        content = kubeconfig(
            clusters=[{"name": "k", "cluster": cluster}],
            users=[{"name": "u", "user": {**data, "tokenFile": "/run/token"}}],
        )
        assert parse_kubeconfig(content, str(tmp_path / "config")) == Access(
            server="https://api",
            namespace="n",
            authority=b"authority",
            server_name="kubernetes",
            token_file="/run/token",
            certificate=b"certificate\nkey",
            proxy="http://proxy:3128",
        )

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"current-context": "x"}, "contexts has no entry 'x'"),
            ({"clusters": None}, "clusters has no entry 'k'"),
            ({"users": [{"name": "u", "user": {"exec": {}}}]}, "credentials by exec"),
            ({"users": [{"name": "u", "user": {"token": 3}}]}, "token must be a text"),
            ({"users": [{"name": "u", "user": []}]}, None),
            ({"users": [{"name": "u", "user": ["x"]}]}, "users: u must be a mapping"),
            ({"users": [{"name": "u", "user": {"client-key-data": "?"}}]}, "is not base64"),
            ({"users": [{"name": "u", "user": {"client-key": "/none"}}]}, "cannot read /none"),
        ],
    )
    def test_a_kubeconfig_that_cannot_be_used(
        self, changes: dict[str, Any], message: str | None
    ) -> None:
        if message is None:
            assert parse_kubeconfig(kubeconfig(**changes), "/k").token == ""
            return
        with pytest.raises(AccessError, match=message) as refusal:
            parse_kubeconfig(kubeconfig(**changes), "/k")
        assert refusal.value.code == "CDG-N306"

    @pytest.mark.parametrize("content", [b"[", b"\xff", b"3"])
    def test_a_kubeconfig_that_is_no_mapping(self, content: bytes) -> None:
        with pytest.raises(AccessError, match="/k"):
            parse_kubeconfig(content, "/k")

    def test_a_pod_has_a_service_account(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(access, "SERVICE_ACCOUNT", str(tmp_path))
        for name in ("ca.crt", "namespace", "token"):
            (tmp_path / name).write_text(f"{name}\n")
        for host, url in (("10.96.0.1", "10.96.0.1"), ("fd00::1", "[fd00::1]")):
            environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
            found = find_access(environment=environment)
            assert (found.server, found.namespace) == (f"https://{url}:443", "namespace")
            assert (found.authority, found.bearer_token()) == (b"ca.crt\n", "token")

    def test_a_process_outside_of_a_cluster_has_no_access(self) -> None:
        with pytest.raises(AccessError, match="does not run in a pod"):
            find_access(environment={})

    def test_a_token_that_cannot_be_read_is_an_error(self) -> None:
        with pytest.raises(AccessError, match="cannot read /none"):
            Access(server="", token_file="/none").bearer_token()
