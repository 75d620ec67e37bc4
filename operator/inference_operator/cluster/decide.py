"""The plan for a model from one observation: pure.

The rules are in other modules: `rollout` decides which version runs, `scaling.decide` how many
replicas, `conditions` the status.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference_contract.inferencemodel import InferenceModelStatus, Reason, RolloutStatus
from inference_operator.cluster import conditions as status
from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.observe import Observation
from inference_operator.cluster.rollout import rollout


@dataclass(frozen=True)
class Plan:
    deployment: Manifest
    """The manifest to apply, without the number of replicas."""
    lacks_config: bool
    """Whether a pod lacks a Secret or ConfigMap; the missing object may be one of our children."""
    status: InferenceModelStatus
    """The status if the plan can be carried out."""


def decide(found: Observation) -> Plan:
    assessed, version = _assessed(found)
    wanted = found.children
    earlier = None if version == wanted.hash else found.earlier
    problem = found.problems.get(wanted.hash)
    return Plan(
        deployment=wanted.with_template(earlier) if earlier else wanted.deployment,
        lacks_config=problem is not None and problem.reason is Reason.CREATE_CONTAINER_CONFIG_ERROR,
        status=status.status(_view(found, assessed, version), found.before, found.now),
    )


def _assessed(found: Observation) -> tuple[RolloutStatus, str]:
    """The state of the rollout, and the hash of the version to run."""
    wanted = found.children.hash
    assessed = rollout.assess(
        found.before.rollout,
        wanted,
        found.resource.model.spec.version,
        found.pods,
        found.problems.get(wanted),
        overdue=found.condition_message("Progressing", "False"),
        own=found.resource.parent.child,
    )
    version = rollout.running(assessed, wanted)
    if version != wanted and not found.is_new and found.earlier is None:
        return RolloutStatus(), wanted  # Its template is gone: no rollback.
    return assessed, version


def _view(found: Observation, assessed: RolloutStatus, version: str) -> status.PodView:
    model, parent = found.resource.model, found.resource.parent
    hub = model.spec.source.hub
    return status.PodView(
        generation=model.metadata.generation,
        decision=found.seen.decision,
        selector=",".join(f"{label}={value}" for label, value in parent.selector.items()),
        pods=found.pods,
        hash=version,
        version=model.spec.version,
        rollout=assessed,
        problem=found.problems.get(version),
        load=found.seen.load,
        deployment=parent.child,
        no_pods=found.condition_message("ReplicaFailure", "True"),
        repo=hub.repo if hub else "",
    )
