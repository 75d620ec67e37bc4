"""Settings of the gateway and of dispatch, read from the environment once, in `main`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from inference_contract.inferencemodel import Quantity
from inference_contract.leases import LEASE_SECONDS
from inference_gateway.http.addresses import parse_networks

MIN_SECRET_BYTES = 32
_NO_URL = "is no URL: write what is special in a password as %XX"
KNOWN_DEFAULT_SECRETS = frozenset({"changeme", "secret", "your-secret-key-here", "change-me"})


class DatabaseSettings(BaseSettings):
    """Settings for connecting to PostgreSQL; migrations need only these."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", hide_input_in_errors=True)

    database_url: str = Field(description="postgresql://user:password@host:port/database.")
    database_force_ipv4: bool = Field(
        True, description="Resolve the database's host name to IPv4 only."
    )
    database_hostaddr: str | None = Field(
        None, description="IPv4 address to connect to in place of the host name."
    )


class GatewaySettings(DatabaseSettings):
    """All settings; `docs/configuration.md` lists them with units and reasons."""

    api_host: str = Field("0.0.0.0", description="Address the REST API listens on.")  # noqa: S104
    api_port: int = Field(8000, ge=0, le=65_535, description="Port of the REST API.")
    public_url: str | None = Field(
        None, description="URL that clients reach the API at; default: from each request."
    )
    database_pool_size: int = Field(
        8, ge=2, le=200, description="Connections per process, beside the two of the hot path."
    )
    redis_host: str = Field("localhost", description="Redis or Valkey host.")
    redis_port: int = Field(6379, ge=1, le=65_535)
    redis_username: str | None = None
    redis_password: SecretStr | None = None
    redis_url: str | None = Field(
        None, description="In place of the four above: redis://…, rediss://… or unix://…"
    )
    secret_key: SecretStr = Field(
        description=f"Signs access tokens; at least {MIN_SECRET_BYTES} random bytes."
    )
    access_token_expire_minutes: int = Field(15, ge=1, le=1440)
    allow_registration: bool = Field(True, description="Whether anybody may register.")
    registrations_per_address: int = Field(
        60, ge=0, description="Accounts that one address may register in an hour; 0: any number."
    )
    registrations_per_hour: int = Field(
        600, ge=0, description="Accounts that may be registered in an hour in all; 0: any number."
    )
    trusted_proxies: str = Field(
        "", description="Networks (CIDR), by commas, whose X-Forwarded-For is believed."
    )
    rate_per_token: float = Field(
        500, ge=0, le=1e6, description="Requests a second of one token; 0: any number."
    )
    rate_per_user: float = Field(
        1000, ge=0, le=1e6, description="Requests a second of one account; 0: any number."
    )
    rate_per_address: float = Field(
        50, ge=0, le=1e6, description="Requests a second of one address without a valid token."
    )
    rate_burst_seconds: float = Field(
        10, gt=0, le=3600, description="Seconds' worth of these rates that may come at once."
    )
    quota_models: int = Field(100, ge=0, description="Models of an account; 0: any number.")
    quota_replicas: int = Field(
        200, ge=0, description="Replicas that an account's models may have in all; 0: any number."
    )
    quota_min_replicas: int = Field(
        16, ge=0, description="Replicas that an account may have run all the time; 0: any number."
    )
    quota_gpus: int = Field(
        16, ge=0, description="GPUs that an account's models may have in all; 0: any number."
    )
    quota_cache_bytes: Quantity = Field(
        "1Ti", description="Volumes for weights that an account's models may have; 0: any size."
    )
    quota_api_tokens: int = Field(
        100, ge=0, description="API tokens of an account that work; 0: any number."
    )
    quota_open_predictions: int = Field(
        20_000, ge=0, description="Predictions of an account that may wait or run; 0: any number."
    )
    quota_streams: int = Field(
        2000, ge=0, description="Streams of an account that one process serves; 0: any number."
    )
    quota_stored_bytes: Quantity = Field(
        "50Gi", description="Inputs, outputs and logs of an account's predictions; 0: any size."
    )
    queued_bytes_per_account: int = Field(
        64_000_000,
        ge=0,
        description="Inputs of an account's predictions in Redis, bytes; the others wait; 0: any.",
    )
    inference_home: Path | None = Field(
        None, description="Embedded mode: folder of the model documents; unset on Kubernetes."
    )
    kubeconfig: str | None = Field(
        None, description="Cluster that keeps the models; unset: the one this runs in."
    )
    watch_namespaces: str | None = Field(
        None, description="Namespaces whose models are served, by commas; unset: all with an owner."
    )
    owner_namespace_prefix: str = Field(
        "inference-",
        pattern=r"^[a-z0-9][-a-z0-9]{0,22}$",
        description="An account's namespace is called this and its name.",
    )
    create_owner_namespaces: bool = Field(
        True, description="Whether an account's first model makes the account's namespace."
    )
    owner_namespace_pod_security: Literal["restricted", "baseline", "privileged"] = Field(
        "restricted", description="The Pod Security Standard that this namespace enforces."
    )
    owner_namespace_quota: dict[str, str] = Field(
        {
            "pods": "50",
            "requests.nvidia.com/gpu": "16",
            "persistentvolumeclaims": "20",
            "requests.storage": "2Ti",
        },
        description="JSON: a ResourceQuota's `hard` of this namespace; {}: none.",
    )
    owner_namespace_largest_claim: str = Field(
        "500Gi", description="Storage that one claim in this namespace may ask for; empty: any."
    )
    max_body_bytes: int = Field(10_000_000, ge=1000, description="Largest request body, bytes.")
    max_input_bytes: int = Field(
        8_000_000, ge=100, description="Largest prediction input, bytes: a photo of 6 MB."
    )
    max_bytes_in_flight: int = Field(
        64_000_000,
        ge=1_000_000,
        description="Bytes of large bodies and answers under way; of one no more than are free.",
    )
    max_page_bytes: int = Field(
        4_000_000, ge=1000, description="Bytes of predictions after which a page of them ends."
    )
    validation_seconds: float = Field(
        1, gt=0, le=60, description="CPU for checking one input against its model's schema."
    )
    max_connections: int = Field(
        10_000, ge=10, description="Connections of one process; the longest idle make room."
    )
    max_streams: int = Field(
        4000, ge=1, description="Streams of one process, of all accounts: memory; beyond: 503."
    )
    max_header_bytes: int = Field(
        32_768, ge=1024, description="Largest request line and headers, bytes."
    )
    max_headers: int = Field(100, ge=10, description="Headers of a request.")
    max_url_bytes: int = Field(8192, ge=256, description="Longest URL, bytes.")
    header_seconds: float = Field(10, ge=0.1, le=600, description="For a request's headers.")
    body_seconds: float = Field(60, ge=0.1, le=3600, description="For a request's body.")
    write_seconds: float = Field(
        30, ge=0.1, le=3600, description="How long a client may read nothing of its answer."
    )
    keep_alive_seconds: float = Field(
        75, ge=1, le=3600, description="For the next request; longer than proxies in front wait."
    )
    max_open_predictions: int = Field(
        200_000, ge=1, description="Predictions of one model that may wait or run; beyond: 429."
    )
    prediction_deadline_seconds: int = Field(
        86_400, ge=1, description="A prediction without Cancel-After ends canceled after this."
    )
    lease_seconds: float = Field(
        LEASE_SECONDS,
        ge=0.5,
        le=3600,
        description="Silence after which a running attempt counts as dead.",
    )
    max_attempts: int = Field(3, ge=1, le=20, description="Runs that may die before it fails.")
    sweep_seconds: float = Field(2, ge=0.05, le=600, description="Pause of relay and sweeper.")
    webhook_allow_loopback: bool = Field(
        False, description="Let webhooks of administrators reach this machine; embedded mode only."
    )
    webhook_timeout_seconds: float = Field(10, ge=0.1, le=60)
    metrics_port: int = Field(
        8001, ge=0, le=65_535, description="Port of dispatch's health and metrics; 0: a free one."
    )
    metrics_host: str = Field("0.0.0.0", description="Address of both.")  # noqa: S104
    state_file: Path | None = Field(
        None, description="Where the process writes its pid and port, for `inference status`."
    )
    log_level: str = Field("INFO", pattern="(?i)^(debug|info|warning|error)$")

    @field_validator("secret_key")
    @classmethod
    def _strong(cls, value: SecretStr) -> SecretStr:
        secret = value.get_secret_value()
        if len(secret.encode()) < MIN_SECRET_BYTES or secret.lower() in KNOWN_DEFAULT_SECRETS:
            raise ValueError(
                f"needs at least {MIN_SECRET_BYTES} random bytes: make one with "
                "`openssl rand -base64 48`"
            )
        return value

    # Checked here: later parsers would quote a wrong URL with its password in their errors.

    @field_validator("database_url")
    @classmethod
    def _of_a_database(cls, value: str) -> str:
        try:
            make_url(value)
        except (ArgumentError, ValueError):
            raise ValueError(_NO_URL) from None
        return value

    @field_validator("redis_url")
    @classmethod
    def _of_redis(cls, value: str | None) -> str | None:
        try:
            parts = urlsplit(value or "redis:")
            _ = parts.port
        except ValueError:
            raise ValueError(_NO_URL) from None
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(_NO_URL)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @property
    def watched_namespaces(self) -> list[str]:
        return sorted({name.strip() for name in (self.watch_namespaces or "").split(",")} - {""})

    @property
    def redis_dsn(self) -> str:
        return self.redis_url or f"redis://{self.redis_host}:{self.redis_port}/0"

    @property
    def redis_credentials(self) -> dict[str, str | None]:
        """Options of a client; none beside REDIS_URL, which holds its own."""
        if self.redis_url is not None:
            return {}
        password = self.redis_password.get_secret_value() if self.redis_password else None
        return {"username": self.redis_username, "password": password}
