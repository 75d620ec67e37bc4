"""The InferenceModel resource: the desired state (spec) and the actual state (status).

The same document is a YAML file on one machine and a custom resource on Kubernetes. Field names
follow the Kubernetes API conventions; `crds/generate.py` turns these types into the
CustomResourceDefinition.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from inference_contract import values
from inference_contract.modeltype import ModelType
from inference_contract.parameters import INTERFACES, Parameter, default_parameters
from inference_contract.pods import RESERVED_ENV
from inference_contract.quantities import amount, as_quantity

GROUP = "inference-server.dev"
VERSION = "v1alpha1"
API_VERSION: Final = "inference-server.dev/v1alpha1"
KIND: Final = "InferenceModel"
PLURAL = "inferencemodels"

_DNS_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"
"""Owners and models: a DNS label of at most 40 characters, so that names derived from it fit."""

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=40)]
_QUANTITY = r"^\d{1,15}(\.\d{1,6})?(m|[kMGTPE]|[KMGTPE]i)?$"
Quantity = Annotated[
    str,
    Field(pattern=_QUANTITY, max_length=32),
    BeforeValidator(as_quantity),
    WithJsonSchema({"description": "An amount: 500m, 0.5, 2, 4Gi."}),
]
"""A Kubernetes quantity; 0.5 and 2 need no quotes."""


# Parts of paths: none may be `..`, empty, or hidden. (RE2, which checks these on a cluster, has no
# lookahead or lookbehind.)
_REPO_PART = r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*"
"""The hub's own rule: neither `--` nor `..`, and neither `-` nor `.` at an end."""
_REF_PART = r"[A-Za-z0-9_][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*"
_GLOB_PART = r"[A-Za-z0-9_*?+-]+(\.[A-Za-z0-9_*?+-]+)*"
_FOLDER_PART = r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"


_MAX_WORDS = 4000


def _words(value: object) -> object:
    return values.text(value)[:_MAX_WORDS] if isinstance(value, str) else value


Line = Annotated[str, BeforeValidator(_words)]
Words = Annotated[Line, Field(max_length=_MAX_WORDS)]
"""A message of a program. Characters that cannot be stored are replaced and long texts cut, so that
a model's message can never prevent that its failure is stored."""


class Visibility(StrEnum):
    PRIVATE = "private"
    """Only its owner sees and runs it."""
    PUBLIC = "public"
    """Everyone sees it, every account may run it."""


class _Document(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class HubSource(_Document):
    """A repository of the Hugging Face hub."""

    repo: str = Field(pattern=rf"^{_REPO_PART}(/{_REPO_PART})?$", max_length=200)
    revision: str | None = Field(
        None,
        max_length=100,
        pattern=rf"^{_REF_PART}(/{_REF_PART})*$",
        description="Commit or tag to pin.",
    )


class WheelSource(_Document):
    """Weights that an installed Python package carries."""

    package: str = Field(pattern=r"^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$", max_length=100)
    file: str = Field(
        "*.gguf",
        max_length=200,
        pattern=rf"^{_GLOB_PART}(/{_GLOB_PART})*$",
        description="Glob of the weights inside the package.",
    )


class PvcSource(_Document):
    """A folder of a PersistentVolumeClaim in the model's namespace; on Kubernetes only."""

    claim_name: str = Field(pattern=_DNS_NAME, max_length=253)
    path: str = Field(
        "",
        max_length=1000,
        pattern=rf"^({_FOLDER_PART}(/{_FOLDER_PART})*)?$",
        description="Folder inside the volume; empty: its root.",
    )


class Source(_Document):
    """Where the weights or the code come from: exactly one of path, pvc, hub and wheel."""

    path: str | None = Field(
        None, min_length=1, max_length=1000, description="Folder or file on the runner's machine."
    )
    pvc: PvcSource | None = None
    hub: HubSource | None = None
    wheel: WheelSource | None = None
    digest: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{1,64}$",
        description="Of the code at `path`: another one is another version. On one machine each "
        "PUT sets it.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if sum(part is not None for part in (self.path, self.pvc, self.hub, self.wheel)) != 1:
            raise ValueError("set exactly one of path, pvc, hub, wheel")
        return self


class Engine(_Document):
    """How the runner loads and runs the model."""

    class_name: str | None = Field(
        None,
        max_length=200,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
        description="module:Class below source.path; for type custom only.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Passed to the engine as they are."
    )


class ScalingMode(StrEnum):
    OPERATOR = "Operator"
    """The operator scales by the load."""
    NONE = "None"
    """Somebody else scales the Deployment: a person, an HPA, KEDA. On Kubernetes only."""


class Autoscaling(_Document):
    mode: ScalingMode = Field(
        ScalingMode.OPERATOR,
        description="None: somebody else scales the Deployment; on Kubernetes only.",
    )
    target_per_replica: int = Field(
        16, ge=1, le=10_000, description="Predictions (queued + in flight) one replica carries."
    )
    scale_down_delay_seconds: int = Field(60, ge=0, le=86_400)
    idle_timeout_seconds: int = Field(
        300, ge=0, le=604_800, description="Idle time before the last replica goes."
    )


class Rollout(_Document):
    """How a changed model takes the place of the running one; on Kubernetes only."""

    max_surge: int = Field(
        0,
        ge=0,
        le=1000,
        description="Replicas beyond the wanted number meanwhile; 0: an old one drains first, so "
        "that no spare GPU is needed.",
    )


class Batching(_Document):
    max_batch_size: int = Field(16, ge=1, le=1024)


class Timeouts(_Document):
    load_seconds: int = Field(600, ge=1, le=86_400)
    predict_seconds: int = Field(300, ge=1, le=86_400, description="Longest run of one prediction.")
    drain_seconds: int | None = Field(
        None,
        ge=1,
        le=86_400,
        description="How long a stopping runner may finish its work; unset: predictSeconds + 30. "
        "What then still runs is killed, and run again elsewhere.",
    )


class SecretKey(_Document):
    """A value of a Secret in the model's namespace."""

    name: str = Field(pattern=_DNS_NAME, max_length=253)
    key: str = Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)


class EnvSource(_Document):
    secret_key_ref: SecretKey


class EnvVar(_Document):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)
    value: str = Field("", max_length=4000)
    value_from: EnvSource | None = Field(None, description="In place of value; on Kubernetes only.")

    @model_validator(mode="after")
    def _one_value(self) -> EnvVar:
        if self.name in RESERVED_ENV:
            raise ValueError(f"{self.name} is set by the server: choose another name")
        if self.value and self.value_from is not None:
            raise ValueError("set value or valueFrom, not both")
        return self


class Resources(_Document):
    """As in a container; what is named here replaces the hardware profile's."""

    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16)

    @model_validator(mode="after")
    def _possible(self) -> Resources:
        for field, amounts in (("requests", self.requests), ("limits", self.limits)):
            for name, quantity in amounts.items():
                # A domain in its name: a device, of which there is no part.
                if "/" in name and amount(quantity) % 1:
                    raise ValueError(f"{field}.{name} must be a whole number, not {quantity}")
        for name in self.requests.keys() & self.limits.keys():
            asked, most = self.requests[name], self.limits[name]
            if amount(asked) > amount(most):
                raise ValueError(f"requests.{name} ({asked}) is more than limits.{name} ({most})")
        return self


class Toleration(_Document):
    """As in a pod."""

    key: str | None = Field(None, max_length=316)
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = Field(None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(None, ge=0, le=604_800)


class Pod(_Document):
    """What the runner's pods are made of beyond the hardware profile; on Kubernetes only."""

    image: str | None = Field(
        None, min_length=1, max_length=500, description="In place of the server's runner image."
    )
    resources: Resources = Field(default_factory=Resources)
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] = Field(
        default_factory=dict, max_length=16
    )
    tolerations: list[Toleration] = Field(default_factory=list, max_length=16)
    runtime_class_name: str | None = Field(None, pattern=_DNS_NAME, max_length=253)
    priority_class_name: str | None = Field(None, pattern=_DNS_NAME, max_length=253)


class Cache(_Document):
    """Where downloaded and converted weights are kept between pods; on Kubernetes only."""

    size: Quantity | None = Field(
        None, description="Of a PersistentVolumeClaim of the model's own; empty: the server's."
    )
    storage_class_name: str | None = Field(None, pattern=_DNS_NAME, max_length=253)


class InferenceModelSpec(_Document):
    type: ModelType
    display_name: str | None = Field(None, max_length=100)
    description: str = Field("", max_length=4000)
    visibility: Visibility = Visibility.PRIVATE
    version: str = Field("1", min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.+-]+$")
    source: Source
    engine: Engine = Field(default_factory=Engine)
    input_schema: dict[str, Parameter] = Field(
        default_factory=dict, max_length=64, description="Empty: the defaults of the type."
    )
    hardware: str = Field(
        "cpu", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="A hardware profile."
    )
    min_replicas: int = Field(0, ge=0, le=1000)
    max_replicas: int = Field(1, ge=1, le=1000)
    autoscaling: Autoscaling = Field(default_factory=Autoscaling)
    rollout: Rollout = Field(default_factory=Rollout)
    batching: Batching = Field(default_factory=Batching)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    env: list[EnvVar] = Field(default_factory=list, max_length=64)
    pod: Pod = Field(default_factory=Pod)
    cache: Cache = Field(default_factory=Cache)

    @model_validator(mode="before")
    @classmethod
    def _values(cls, content: object) -> object:
        """Check untyped values: defaults, enums, parameters of engines and others."""
        if isinstance(content, dict):
            try:
                values.check(content, values.MAX_NODES, opaque=BaseModel)
            except values.Unacceptable as error:
                place = values.place(content, values.MAX_NODES, opaque=BaseModel)
                raise ValueError(f"{place} {error}".lstrip()) from error
        return content

    @model_validator(mode="after")
    def _consistent(self) -> InferenceModelSpec:
        if self.min_replicas > self.max_replicas:
            raise ValueError("minReplicas must not exceed maxReplicas")
        if (self.type is ModelType.CUSTOM) != (self.engine.class_name is not None):
            raise ValueError("engine.className is required for type custom, and only there")
        if self.type is ModelType.CUSTOM and not (self.source.path or self.source.pvc):
            raise ValueError("type custom takes its code from source.path or source.pvc")
        return self

    def parameters(self) -> dict[str, Parameter]:
        """The input parameters: the model's own, or the defaults of its type."""
        return self.input_schema or default_parameters(self.type)

    def one_of(self) -> tuple[str, ...]:
        """The parameters of which each input must have exactly one; none if empty."""
        return () if self.input_schema else INTERFACES[self.type].one_of

    def runner_hash(self) -> str:
        """A short hash of the fields that a runner is started with: a change replaces the
        runner."""
        fields = {"type", "version", "source", "engine", "hardware", "batching", "timeouts", "env"}
        fields |= {"pod", "cache"}
        content = self.model_dump(mode="json", include=fields)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


class ConditionType(StrEnum):
    READY = "Ready"
    PROGRESSING = "Progressing"
    SCALING_ACTIVE = "ScalingActive"
    ARTIFACT_CACHED = "ArtifactCached"
    """Whether the weights of a hub are where the runners look for them."""


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(_Document):
    type: ConditionType
    status: ConditionStatus
    reason: str = Field(pattern=r"^[A-Za-z]+$", max_length=100)
    """CamelCase, for programs: see `Reason`."""
    message: Words = ""
    """For people: the state, and what to do."""
    last_transition_time: datetime | None = None
    observed_generation: int = 0


class Reason(StrEnum):
    """Why a model is, or is not, ready."""

    READY = "Ready"
    SCALED_TO_ZERO = "ScaledToZero"
    DOWNLOADING_MODEL = "DownloadingModel"
    LOADING_MODEL = "LoadingModel"
    LOAD_FAILED = "LoadFailed"
    CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
    INVALID_MODEL = "InvalidModel"
    NO_CAPACITY = "NoCapacity"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
    CREATE_CONTAINER_CONFIG_ERROR = "CreateContainerConfigError"
    """A Secret that the pod's environment names, or a key of it, is missing."""
    CREATE_CONTAINER_ERROR = "CreateContainerError"
    PODS_REFUSED = "PodsRefused"
    """A quota, a policy or an admission webhook of the cluster refuses the model's pods."""
    OOM_KILLED = "OOMKilled"
    EVICTED = "Evicted"
    """The node evicted the pod: it ran short of a resource, or did not admit the pod."""
    NODE_LOST = "NodeLost"
    """The node of a runner that was ready no longer reports."""
    NOT_READY = "NotReady"
    """A runner has loaded its model, but its readiness probe fails."""
    STARTING = "Starting"
    OPERATOR_LACKS_RIGHT = "OperatorLacksRight"
    """The operator lacks a right that the model needs; an administrator must grant it."""
    NAME_TAKEN = "NameTaken"
    """An object with the name of a child belongs to another owner."""
    REDIS_UNAVAILABLE = "RedisUnavailable"
    """The Redis user of the model's runners cannot be created."""
    REDIS_BUDGET_EXCEEDED = "RedisBudgetExceeded"
    """The model's runners exceeded their budget of Redis, and have no user for a while."""
    ROLLOUT_FAILED = "RolloutFailed"
    """The changed model did not become ready; the earlier version keeps running."""


class RolloutStatus(_Document):
    """What becomes of a change: so that a restarted operator goes on where this one was."""

    hash: str = Field("", description="Of the replicas that were ready last.")
    version: str = Field("", description="Theirs.")
    failed_hash: str = Field("", description="Of a change that was taken back.")
    failed_message: Words = Field("", description="Why it was.")


class InferenceModelStatus(_Document):
    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    queued: int = 0
    in_flight: int = 0
    selector: str = Field("", description="Of the runners' pods, for the scale subresource.")
    rollout: RolloutStatus = Field(default_factory=RolloutStatus)
    conditions: list[Condition] = Field(default_factory=list)
    log_tail: list[Line] = Field(
        default_factory=list, description="Last log lines of a runner that failed."
    )

    def condition(self, type: ConditionType) -> Condition | None:
        return next((c for c in self.conditions if c.type is type), None)


class Metadata(BaseModel):
    """The part of Kubernetes' ObjectMeta that we use."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    name: Name
    namespace: Name
    """On one machine the owner; on a cluster the namespace labelled with the owner."""
    generation: int = Field(1, ge=0, le=2**63 - 1)
    creation_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class InferenceModel(_Document):
    api_version: Literal["inference-server.dev/v1alpha1"] = API_VERSION
    kind: Literal["InferenceModel"] = KIND
    metadata: Metadata
    spec: InferenceModelSpec
    status: InferenceModelStatus = Field(default_factory=InferenceModelStatus)

    @property
    def owner(self) -> str:
        return self.metadata.namespace

    @property
    def id(self) -> str:
        """`owner/name`, as in the REST API."""
        return f"{self.owner}/{self.metadata.name}"
