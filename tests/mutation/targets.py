"""What is mutated: the pure decisions, by folder, each with the tests that hold them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Some files of one folder, and the tests that must catch a change to them."""

    folder: str
    """Below the source root that holds the package."""
    files: tuple[str, ...]
    tests: tuple[str, ...]
    """Files below tests/; what of them starts a server is left out."""
    acting: tuple[str, ...] = ()
    """Functions that ask a server, by mutmut's names: tested on a real one, not counted here."""

    @property
    def sources(self) -> list[str]:
        return [f"{self.folder}/{file}" for file in self.files]


def _target(folder: str, files: str, tests: str, acting: str = "") -> Target:
    return Target(folder, tuple(files.split()), tuple(tests.split()), tuple(acting.split()))


CONTRACT = "inference_contract"
OPERATOR = "inference_operator"
GATEWAY = "inference_gateway"
RUNNER = "inference_runner"

TARGETS = [
    _target(f"{OPERATOR}/scaling", "decide.py", "operator/scaling/test_decide.py"),
    _target(
        f"{OPERATOR}/cluster",
        "decide.py conditions.py events.py",
        "operator/cluster/test_decide.py operator/cluster/test_conditions.py"
        " operator/cluster/test_events.py",
    ),
    _target(f"{OPERATOR}/cluster/rollout", "rollout.py", "operator/cluster/rollout"),
    _target(
        f"{OPERATOR}/cluster/pods",
        "diagnosis.py runner_pod.py deletion_cost.py",
        "operator/cluster/pods",
        acting="x_running_by_pod",
    ),
    _target(f"{OPERATOR}/cluster/manifests", "*.py", "operator/cluster/manifests"),
    _target(
        f"{OPERATOR}/local",
        "actions.py failures.py fair_shares.py conditions.py",
        "operator/local/test_actions.py operator/local/test_failures.py"
        " operator/local/test_fair_shares.py operator/local/test_conditions.py",
    ),
    _target(f"{GATEWAY}/dispatch/recovery", "rules.py", "gateway/dispatch/recovery/test_rules.py"),
    _target(
        f"{GATEWAY}/dispatch/recording",
        "event_batch.py events.py",
        "gateway/dispatch/recording/test_event_batch.py gateway/dispatch/recording/test_events.py",
    ),
    _target(f"{GATEWAY}/webhooks", "retry.py", "gateway/webhooks/test_retry.py"),
    _target(f"{GATEWAY}/rates", "gcra.py", "gateway/rates"),
    _target(f"{GATEWAY}/quotas", "amounts.py queued.py", "gateway/quotas", "xǁRoomǁlook x_free"),
    _target(
        f"{GATEWAY}/http",
        "accept_header.py urls.py duplicate_keys.py",
        "gateway/http/test_accept_header.py gateway/http/test_urls.py"
        " gateway/http/test_duplicate_keys.py",
    ),
    _target(f"{GATEWAY}/predictions", "cursor.py", "gateway/predictions/test_cursor.py"),
    _target(
        f"{GATEWAY}/predictions/creating",
        "requests.py",
        "gateway/predictions/creating/test_requests.py",
    ),
    _target(
        f"{GATEWAY}/predictions/streaming",
        "sse.py transcript.py",
        "gateway/predictions/streaming/test_sse_reader.py",
    ),
    _target(f"{GATEWAY}/models/inputs", "*.py", "gateway/models/inputs"),
    _target(
        CONTRACT,
        "values.py quantities.py backoff.py inferencemodel.py predictions.py",
        "contract/test_values.py contract/test_quantities.py contract/test_backoff.py"
        " contract/test_contract.py contract/test_names.py",
    ),
    _target(
        RUNNER,
        "outputs.py prints.py",
        "runner/test_outputs.py runner/test_prints.py",
    ),
    _target(
        f"{RUNNER}/engines/text_generation",
        "schedule.py slots.py chat.py message.py",
        "runner/text_generation/test_schedule.py runner/text_generation/test_slots.py"
        " runner/text_generation/test_chat.py runner/text_generation/test_message.py",
    ),
    _target(
        f"{RUNNER}/engines",
        "inputs.py text_generation/options.py",
        "runner/text_generation/test_options.py runner/text_generation/test_chat.py",
    ),
]
