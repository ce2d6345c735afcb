# SPDX-License-Identifier: Apache-2.0
"""Reads the containers of Kubernetes manifests: pods, and all that has a template of pods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cdi_base.findings import Finding
from cdi_gen.why.command import documents
from cdi_gen.why.command.request import POD, ContainerRequest

_TEMPLATES = ("spec", "template"), ("spec", "jobTemplate", "spec", "template")
"""Where a Deployment, a Job, … has its pods, and where a CronJob has them."""
_CLAIM_KINDS = frozenset({"ResourceClaim", "ResourceClaimTemplate"})
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def is_manifest(document: documents.Table) -> bool:
    """Whether a document is a manifest of Kubernetes."""
    return bool(document.get("apiVersion")) and bool(document.get("kind"))


def read(found: Sequence[documents.Table], path: str, **common: Any) -> Iterator[ContainerRequest]:
    """The requests of all containers in the documents of a file."""
    manifests = [*_listed(found)]
    claims = {_name(document) for document in manifests if document.get("kind") in _CLAIM_KINDS}
    for document in manifests:
        pod = _pod(document)
        if not pod:
            continue
        spec = documents.table(pod, "spec")
        place = f"{path}: {documents.text(document.get('kind'))} {_name(document)}"
        pod_claims = _claims(spec)
        for group in _CONTAINERS:
            for container in documents.items(spec.get(group)):
                if isinstance(container, dict):
                    yield _request(
                        documents.table(container), spec, pod, place, pod_claims, claims, common
                    )


def _request(
    container: documents.Table,
    spec: documents.Table,
    pod: documents.Table,
    place: str,
    pod_claims: dict[str, str],
    claims_in_file: set[str],
    common: dict[str, Any],
) -> ContainerRequest:
    name = documents.text(container.get("name")) or "?"
    source = f"{place}, container {name}"
    resources = documents.table(container, "resources")
    claim_names = tuple(
        documents.text(documents.table(claim).get("name"))
        for claim in documents.items(resources.get("claims"))
        if isinstance(claim, dict)
    )
    findings = [
        Finding(
            "CDG-Y124",
            "error",
            f"{source}: the claim {claim} is not in spec.resourceClaims of the pod",
            subject=claim,
            fix=f"add {{name: {claim}, resourceClaimTemplateName: …}} to spec.resourceClaims",
        )
        for claim in claim_names
        if claim not in pod_claims
    ]
    return ContainerRequest(
        engine="kubernetes",
        program="kubernetes",
        action=POD,
        source=source,
        image=documents.text(container.get("image")),
        environment=tuple(
            (documents.text(entry.get("name")), documents.text(entry.get("value")))
            for entry in documents.items(container.get("env"))
            if isinstance(entry, dict) and "valueFrom" not in entry
        ),
        annotations=tuple(
            (key, value or "")
            for key, value in documents.pairs(documents.table(pod, "metadata").get("annotations"))
        ),
        mounts=tuple(_mounts(container, spec)),
        privileged=documents.table(container, "securityContext").get("privileged") is True,
        runtime_class=documents.text(spec.get("runtimeClassName")),
        resources=_quantities(resources.get("limits")),
        requested_resources=_quantities(resources.get("requests")),
        claims=tuple(_claim_text(claim, pod_claims, claims_in_file) for claim in claim_names),
        findings=tuple(findings),
        **common,
    )


def _claim_text(name: str, pod_claims: dict[str, str], claims_in_file: set[str]) -> str:
    source = pod_claims.get(name, "")
    where = " in this file" if source in claims_in_file else ""
    return f"{name} ({source}{where})" if source else name


def _claims(spec: documents.Table) -> dict[str, str]:
    """The claims of a pod by name, with the claim or the template that each is of."""
    result = {}
    for claim in documents.items(spec.get("resourceClaims")):
        values = documents.table(claim) if isinstance(claim, dict) else {}
        source = values.get("resourceClaimName") or values.get("resourceClaimTemplateName")
        result[documents.text(values.get("name"))] = documents.text(source)
    return result


def _quantities(value: object) -> tuple[tuple[str, str], ...]:
    return tuple((name, number or "") for name, number in documents.pairs(value))


def _mounts(container: documents.Table, spec: documents.Table) -> Iterator[tuple[str, str]]:
    """The paths of the host that are mounted in a container."""
    paths = {
        documents.text(volume.get("name")): documents.text(
            documents.table(volume, "hostPath").get("path")
        )
        for volume in documents.items(spec.get("volumes"))
        if isinstance(volume, dict)
    }
    for mount in documents.items(container.get("volumeMounts")):
        values = documents.table(mount) if isinstance(mount, dict) else {}
        source = paths.get(documents.text(values.get("name")))
        if source:
            yield source, documents.text(values.get("mountPath"))


def _pod(document: documents.Table) -> documents.Table:
    """The pod of a manifest, or the template of its pods; empty if it has none."""
    if document.get("kind") == "Pod":
        return document
    for path in _TEMPLATES:
        template = documents.table(document, *path)
        if isinstance(template.get("spec"), dict) and "containers" in template["spec"]:
            return template
    return {}


def _name(document: documents.Table) -> str:
    metadata = documents.table(document, "metadata")
    return documents.text(metadata.get("name")) or documents.text(metadata.get("generateName"))


def _listed(found: Sequence[documents.Table]) -> Iterator[documents.Table]:
    """The manifests, also those of a List."""
    for document in found:
        if documents.text(document.get("kind")).endswith("List"):
            entries = documents.items(document.get("items"))
            yield from (entry for entry in entries if isinstance(entry, dict))
        else:
            yield document
