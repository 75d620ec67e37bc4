"""The pod of a runner, within the restricted Pod Security Standard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from inference_contract.inferencemodel import (
    EnvVar,
    InferenceModelSpec,
    Pod,
    PvcSource,
    Resources,
)
from inference_contract.pods import POD_NAME, RunnerEnv
from inference_contract.quantities import amount
from inference_contract.queues import model_key, worker_name
from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import APP, Parent, fingerprint
from inference_operator.cluster.settings import CACHE_DIR
from inference_operator.plan import LOAD_GRACE, RunnerPlan

CONTAINER = "runner"
PORT = 8001
USER = 10_001
SOURCE_DIR = "/source"
_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
ANNOTATION_SECRET = "inference-server.dev/secret-hash"  # noqa: S105 - an annotation's name
"""A running pod does not see a change of its Secret; a new annotation causes a new pod."""


def pod_template(
    parent: Parent,
    plan: RunnerPlan,
    env: Sequence[EnvVar],
    pod: Pod,
    *,
    image: str,
    redis_url: str,
    pvc: PvcSource | None = None,
    cache_node_path: str | None = None,
    has_cache_claim: bool = False,
) -> Manifest:
    """The template of a Deployment's pods.

    Args:
        env: spec.env; its literal values are taken from the plan.
        pod: the hardware profile and spec.pod, combined by `merge`.
        image: image of runners whose model names none.
        redis_url: only its fingerprint appears in the template.
        pvc: mounted at SOURCE_DIR.
        cache_node_path: folder of the node for weights; None: weights are deleted with the pod.
        has_cache_claim: whether the model has its own volume for weights instead.
    """
    spec: dict[str, Any] = {
        "serviceAccountName": parent.child,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(plan.grace_seconds),
        "securityContext": dict(_SECURITY),
        "containers": [_container(parent, plan, env, pod, pod.image or image, has_pvc=bool(pvc))],
        "volumes": list(_volumes(pvc, _cache(parent, cache_node_path, has_cache_claim))),
        **_placement(pod),
    }
    annotations = {ANNOTATION_SECRET: fingerprint(redis_url)}
    return {
        "metadata": {"labels": {**APP, **plan.labels}, "annotations": annotations},
        "spec": spec,
    }


def verbatim(text: str) -> str:
    """Escape an environment value or an argument: Kubernetes expands `$(NAME)` and `$$` there."""
    return text.replace("$", "$$")


def merge(profile: Pod, wishes: Pod) -> Pod:
    """A model's values replace those of the hardware profile; its tolerations are added."""
    return Pod(
        image=wishes.image or profile.image,
        resources=_merged(profile.resources, wishes.resources),
        node_selector=profile.node_selector | wishes.node_selector,
        tolerations=[*profile.tolerations, *wishes.tolerations],
        runtime_class_name=wishes.runtime_class_name or profile.runtime_class_name,
        priority_class_name=wishes.priority_class_name or profile.priority_class_name,
    )


def _merged(profile: Resources, wishes: Resources) -> Resources:
    """If a model sets only a limit or only a request, a contradicting value of the profile is
    dropped: a limit below the profile's request is intended, but the API server would refuse it."""
    requests, limits = dict(profile.requests), dict(profile.limits)
    for name, limit in wishes.limits.items():
        if name in requests and ("/" in name or amount(requests[name]) > amount(limit)):
            requests[name] = limit
    for name, asked in wishes.requests.items():
        if name in limits and ("/" in name or amount(limits[name]) < amount(asked)):
            limits[name] = asked
    return Resources(requests=requests | wishes.requests, limits=limits | wishes.limits)


def spec_for_runner(spec: InferenceModelSpec) -> InferenceModelSpec:
    """The fields of a spec that a runner reads; others may change without a new pod."""
    read = {"type", "version", "source", "engine", "hardware", "batching", "timeouts"}
    part = spec.model_dump(include=read)
    if spec.source.pvc is not None:
        part["source"] = {"path": f"{SOURCE_DIR}/{spec.source.pvc.path}".rstrip("/")}
    return InferenceModelSpec.model_validate(part)


def _container(
    parent: Parent,
    plan: RunnerPlan,
    env: Sequence[EnvVar],
    pod: Pod,
    image: str,
    *,
    has_pvc: bool,
) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume
        {"name": "cache", "mountPath": CACHE_DIR},
    ]
    if has_pvc:
        mounts.append({"name": "source", "mountPath": SOURCE_DIR, "readOnly": True})
    return {
        "name": CONTAINER,
        "image": image,
        "env": list(_environment(parent, plan, env)),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": pod.resources.model_dump(exclude_defaults=True),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": mounts,
        # The runner's own watchdog ends a slow load first: its error says more.
        "startupProbe": _probe("/health/ready", 1, ceil(plan.load_seconds + LOAD_GRACE)),
        "readinessProbe": _probe("/health/ready", 5, 2),
        # A process that restarts again and again in its container needs a moment to answer.
        "livenessProbe": _probe("/health/live", 10, 6),
    }


def _environment(
    parent: Parent, plan: RunnerPlan, env: Sequence[EnvVar]
) -> Iterator[dict[str, Any]]:
    """Sorted, so that equal plans give equal manifests. POD_NAME comes before the variables that
    refer to it, as Kubernetes requires."""
    from_secrets: Mapping[str, Any] = {
        entry.name: entry.value_from.model_dump(by_alias=True)
        for entry in env
        if entry.value_from is not None
    }
    literal = {
        "HOME": "/tmp",  # noqa: S108 - a volume
        **{name: verbatim(value) for name, value in plan.env.items()},
        RunnerEnv.HOST.value: "0.0.0.0",  # noqa: S104 - of the pod
        RunnerEnv.PORT.value: str(PORT),
        RunnerEnv.NAME.value: worker_name(model_key(plan.model), f"$({POD_NAME})"),
        RunnerEnv.REPLACES_ITSELF.value: "true",  # the kubelet's restarts have a growing backoff
    }
    references = {
        **from_secrets,
        POD_NAME: {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
        RunnerEnv.REDIS_URL.value: {
            "secretKeyRef": {"name": parent.child, "key": RunnerEnv.REDIS_URL.value}
        },
    }
    for name in sorted({*literal, *references}):
        if name in references:
            yield {"name": name, "valueFrom": references[name]}
        else:
            yield {"name": name, "value": literal[name]}


def _probe(path: str, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _cache(parent: Parent, node_path: str | None, has_claim: bool) -> dict[str, Any]:
    if has_claim:
        return {"persistentVolumeClaim": {"claimName": parent.child}}
    if node_path is not None:
        return {"hostPath": {"path": node_path, "type": "DirectoryOrCreate"}}
    return {"emptyDir": {}}


def _volumes(pvc: PvcSource | None, cache: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"name": "tmp", "emptyDir": {}}
    yield {"name": "cache", **cache}
    if pvc is not None:
        claim = {"claimName": pvc.claim_name, "readOnly": True}
        yield {"name": "source", "persistentVolumeClaim": claim}


def _placement(pod: Pod) -> dict[str, Any]:
    """Without unset fields: the API server drops them, and their absence would look like drift."""
    placement = {
        "nodeSelector": pod.node_selector,
        "tolerations": [t.model_dump(by_alias=True, exclude_none=True) for t in pod.tolerations],
        "runtimeClassName": pod.runtime_class_name,
        "priorityClassName": pod.priority_class_name,
    }
    return {field: value for field, value in placement.items() if value}
