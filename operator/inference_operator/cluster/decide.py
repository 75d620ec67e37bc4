"""From what one look found to what shall be: pure.

The rules are in parts of their own: `rollout` has which version runs, `scaling.decide` how many
replicas, `conditions` what is told.
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
    """What it shall be, without its number of replicas."""
    lacks_config: bool
    """A pod does not find what it needs to start: it may be of ours."""
    status: InferenceModelStatus
    """What is true, if all of this can be done."""


def decide(found: Observation) -> Plan:
    course, version = _course(found)
    wanted = found.children
    earlier = None if version == wanted.hash else found.earlier
    trouble = found.troubles.get(wanted.hash)
    return Plan(
        deployment=wanted.with_template(earlier) if earlier else wanted.deployment,
        lacks_config=trouble is not None and trouble.reason is Reason.CREATE_CONTAINER_CONFIG_ERROR,
        status=status.status(_view(found, course, version), found.before, found.now),
    )


def _course(found: Observation) -> tuple[RolloutStatus, str]:
    """What is known of versions now, and the hash of the one that shall run."""
    wanted = found.children.hash
    course = rollout.judge(
        found.before.rollout,
        wanted,
        found.resource.model.spec.version,
        found.pods,
        found.troubles.get(wanted),
        overdue=found.condition_message("Progressing", "False"),
        own=found.resource.parent.child,
    )
    version = rollout.running(course, wanted)
    if version != wanted and not found.is_new and found.earlier is None:
        return RolloutStatus(), wanted  # The history no longer has it: there is no way back.
    return course, version


def _view(found: Observation, course: RolloutStatus, version: str) -> status.PodView:
    model, parent = found.resource.model, found.resource.parent
    hub = model.spec.source.hub
    return status.PodView(
        generation=model.metadata.generation,
        decision=found.seen.decision,
        selector=",".join(f"{label}={value}" for label, value in parent.selector.items()),
        pods=found.pods,
        hash=version,
        version=model.spec.version,
        rollout=course,
        trouble=found.troubles.get(version),
        load=found.seen.load,
        deployment=parent.child,
        no_pods=found.condition_message("ReplicaFailure", "True"),
        repo=hub.repo if hub else "",
    )
