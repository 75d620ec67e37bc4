"""The manifests that a model needs in its namespace: a pure function of resource and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from inference_contract.inferencemodel import (
    InferenceModel,
    InferenceModelSpec,
    Pod,
    Reason,
    Resources,
)
from inference_contract.pods import LABEL_HASH, RunnerEnv
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import fingerprint
from inference_operator.cluster.manifests.cache_claim import cache_claim
from inference_operator.cluster.manifests.deployment import deployment
from inference_operator.cluster.manifests.fetch import fetch_first
from inference_operator.cluster.manifests.network_policy import network_policy
from inference_operator.cluster.manifests.pod import merge, pod_template, spec_for_runner
from inference_operator.cluster.manifests.secret import secret
from inference_operator.cluster.manifests.service_account import service_account
from inference_operator.cluster.resource import Refusal, Resource
from inference_operator.cluster.settings import ClusterSettings
from inference_operator.plan import CPU, RunnerPlan, plan


@dataclass(frozen=True)
class Children:
    hash: str
    """Hash of everything that the document's pods are made of."""
    supporting: Mapping[Kind, Manifest]
    """The objects that a pod needs before it can start, in order."""
    deployment: Manifest
    with_template: Callable[[Manifest], Manifest]
    """Returns the Deployment with another version's pod template."""


def children(resource: Resource, settings: ClusterSettings, redis_url: str) -> Children:
    """The manifests to apply.

    Args:
        redis_url: the URL for the model's runners.

    Raises:
        Refusal: the hardware profile is not configured, or GPUs are not enabled.
    """
    spec, pod = resource.model.spec, _pod(resource.model.spec, settings)
    planned = _plan(resource.model, pod, settings)
    template = _template(resource, planned, pod, settings, redis_url)
    version = fingerprint(template)
    template["metadata"]["labels"][LABEL_HASH] = version

    def with_template(template: Manifest) -> Manifest:
        return deployment(resource.parent, planned, template, max_surge=spec.rollout.max_surge)

    return Children(
        hash=version,
        supporting=_supporting(resource, planned.labels, settings, redis_url),
        deployment=with_template(template),
        with_template=with_template,
    )


def _plan(model: InferenceModel, pod: Pod, settings: ClusterSettings) -> RunnerPlan:
    """Without the hash of the spec: a pod's is the hash of its template."""
    planned = plan(model, settings, 0)
    labels = {name: value for name, value in planned.labels.items() if name != LABEL_HASH}
    spec = spec_for_runner(model.spec).model_dump_json(by_alias=True, exclude_none=True)
    has_gpu = settings.enable_gpu and bool(_devices(pod.resources))
    for_pods: dict[str, str] = {
        RunnerEnv.SPEC: spec,
        RunnerEnv.ENABLE_GPU: str(has_gpu).lower(),
    }
    return replace(planned, labels=labels, env={**planned.env, **for_pods})


def _template(
    resource: Resource, planned: RunnerPlan, pod: Pod, settings: ClusterSettings, redis_url: str
) -> Manifest:
    spec = resource.model.spec
    template = pod_template(
        resource.parent,
        planned,
        spec.env,
        pod,
        image=settings.runner_image,
        redis_url=redis_url,
        pvc=spec.source.pvc,
        cache_node_path=settings.model_cache_node_path,
        has_cache_claim=spec.cache.size is not None,
    )
    hub = spec.source.hub
    return template if hub is None else fetch_first(template, settings.hf_endpoint)


def _supporting(
    resource: Resource, labels: Mapping[str, str], settings: ClusterSettings, redis_url: str
) -> dict[Kind, Manifest]:
    """The objects that a pod needs before it can start, in order."""
    spec, parent = resource.model.spec, resource.parent
    found = {
        Kind.SERVICE_ACCOUNT: service_account(parent, labels, settings.pull_secrets),
        Kind.SECRET: secret(parent, labels, redis_url),
        Kind.NETWORK_POLICY: network_policy(
            parent, labels, redis_url, spec.source, settings.hf_endpoint
        ),
    }
    if (size := spec.cache.size) is not None:
        storage_class, surge = spec.cache.storage_class_name, spec.rollout.max_surge
        is_shared = spec.max_replicas + surge > 1
        found[Kind.CLAIM] = cache_claim(parent, labels, size, storage_class, is_shared=is_shared)
    return found


def _pod(spec: InferenceModelSpec, settings: ClusterSettings) -> Pod:
    """The hardware profile merged with spec.pod; with ENABLE_GPU=false the profile is cpu."""
    profiles = settings.profiles
    if spec.hardware not in profiles:
        known = ", ".join(sorted(profiles))
        message = f"hardware {spec.hardware!r} is none of this server's: {known}; set spec.hardware"
        raise Refusal(Reason.INVALID_MODEL, message)
    if settings.enable_gpu:
        return merge(profiles[spec.hardware], spec.pod)
    if devices := _devices(spec.pod.resources):
        message = (
            f"spec.pod.resources asks for {', '.join(devices)}, but with ENABLE_GPU=false no model "
            "gets a device: remove it, or have the administrator enable GPUs"
        )
        raise Refusal(Reason.NO_CAPACITY, message)
    return merge(profiles[CPU], spec.pod)


def _devices(resources: Resources) -> list[str]:
    """Names of the requested devices: only device resources have a domain in their name."""
    asked = {**resources.requests, **resources.limits}
    return sorted(name for name, amount in asked.items() if "/" in name and amount != "0")
