"""The processes of embedded mode: their commands, environments and readiness checks."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from inference_contract import statefile
from inference_local import postgres, valkey
from inference_local.child_process import ProcessSpec
from inference_local.home import Home

ADMIN = "admin"
"""The first account, which owns the models it creates. This name cannot be registered."""
SERVERS = ("postgres", "valkey")
SERVICES = ("gateway", "dispatch", "operator")

DRAIN_SECONDS = "6"
"""Time that runners get to finish predictions when the stack stops. An interrupted prediction runs
again after the next start."""

FROM_USER = (
    # settings of the gateway, of dispatch and of the operator
    *("ACCESS_TOKEN_EXPIRE_MINUTES", "ALLOW_REGISTRATION", "DATABASE_POOL_SIZE", "ENABLE_GPU"),
    *("LEASE_SECONDS", "LOCAL_MAX_RUNNERS", "LOCAL_TICK_SECONDS", "LOG_LEVEL", "MAX_ATTEMPTS"),
    *("BODY_SECONDS", "HEADER_SECONDS", "KEEP_ALIVE_SECONDS", "WRITE_SECONDS"),
    *("VALIDATION_SECONDS", "MAX_PAGE_BYTES", "MAX_STREAMS"),
    *("MAX_BODY_BYTES", "MAX_BYTES_IN_FLIGHT", "MAX_CONNECTIONS", "MAX_HEADERS"),
    *("MAX_HEADER_BYTES", "MAX_INPUT_BYTES", "MAX_OPEN_PREDICTIONS", "MAX_URL_BYTES"),
    "MODEL_CACHE_DIR",
    *("PREDICTION_DEADLINE_SECONDS", "PUBLIC_URL", "SWEEP_SECONDS", "WEBHOOK_ALLOW_LOOPBACK"),
    *("QUOTA_API_TOKENS", "QUOTA_CACHE_BYTES", "QUOTA_GPUS", "QUOTA_MIN_REPLICAS"),
    *("QUOTA_MODELS", "QUOTA_OPEN_PREDICTIONS", "QUOTA_REPLICAS", "QUOTA_STORED_BYTES"),
    *("QUOTA_STREAMS", "QUEUED_BYTES_PER_ACCOUNT"),
    *("RATE_BURST_SECONDS", "RATE_PER_ADDRESS", "RATE_PER_TOKEN", "RATE_PER_USER"),
    *("REGISTRATIONS_PER_ADDRESS", "REGISTRATIONS_PER_HOUR", "TRUSTED_PROXIES"),
    "WEBHOOK_TIMEOUT_SECONDS",
    # settings of the machine
    *("HOME", "PATH", "TMPDIR", "TZ", "USER", "XDG_CACHE_HOME"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    # settings that models are loaded with
    *("CUDA_VISIBLE_DEVICES", "HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN"),
    *("LD_LIBRARY_PATH", "MKL_NUM_THREADS", "OMP_NUM_THREADS"),
)
"""The variables that child processes inherit from `inference up`; no others."""
LOCALE = {"LC_ALL": "C.UTF-8"}
"""Not the caller's: ssh may forward a locale that this machine lacks; Valkey would not start."""


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The inherited variables of a child process, with LOCALE."""
    return {name: environ[name] for name in FROM_USER if name in environ} | LOCALE


@dataclass(frozen=True)
class Stack:
    home: Home
    host: str
    port: int
    sockets: Path
    environ: Mapping[str, str]
    """The environment of the user who starts the stack."""

    @property
    def url(self) -> str:
        return base_url(self.host, self.port)

    @property
    def database_url(self) -> str:
        return postgres.url(self.sockets)

    @property
    def redis_url(self) -> str:
        return valkey.url(self.sockets)

    def environment(self, name: str) -> dict[str, str]:
        """The whole environment of the process with this name."""
        home = self.home
        return {
            "MODEL_CACHE_DIR": str(home.root / "cache"),
            "WEBHOOK_ALLOW_LOOPBACK": "true",
            **environment(self.environ),
            "API_HOST": self.host,
            "API_PORT": str(self.port),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "INFERENCE_HOME": str(home.root),
            "METRICS_HOST": "127.0.0.1",
            "METRICS_PORT": "0",
            "PYTHONUNBUFFERED": "1",
            "STATE_FILE": str(self.state_file(name)),
        }

    def state_file(self, name: str) -> Path:
        return self.home.run / f"{name}.json"

    def log_file(self, name: str) -> Path:
        return self.home.logs / f"{name}.log"

    def server(self, name: str) -> ProcessSpec:
        ready: Callable[[int], bool]
        env = environment(self.environ)
        if name == "postgres":
            argv = postgres.command(self.home.postgres, self.sockets)
            ready, stop = self._postgres_is_ready, signal.SIGINT
        else:
            argv = valkey.command(self.home.valkey, self.sockets)
            ready, stop = self._valkey_is_ready, signal.SIGTERM
            env |= valkey.ENVIRONMENT
        return replace(
            self._spec(name, argv, env, is_ready=ready, stop_signal=stop), kills_children=True
        )

    def service(self, name: str) -> ProcessSpec:
        argv = python(SERVICE_MODULES[name])
        env = self._with_secret(name)
        return self._spec(name, argv, env, is_ready=self._wrote_its_state(name))

    def migrate(self) -> ProcessSpec:
        argv = python("inference_gateway.migrate")
        return self._spec("migrate", argv, self.environment("migrate"))

    def make_token(self) -> ProcessSpec:
        """Prints the administrator's API token."""
        argv = [*python("inference_gateway.auth.bootstrap"), "--username", ADMIN]
        return self._spec("bootstrap", argv, self._with_secret("bootstrap"))

    def stop_runners(self) -> ProcessSpec:
        argv = [*python("inference_operator.local"), "--stop-runners", "--grace", DRAIN_SECONDS]
        return self._spec("stop-runners", argv, self.environment("stop-runners"))

    def _with_secret(self, name: str) -> dict[str, str]:
        env = self.environment(name)
        if name == "operator":  # It needs neither the database nor the key, and runs models' code.
            del env["DATABASE_URL"]
            return env
        return {**env, "SECRET_KEY": self.home.secret_key()}

    def _spec(
        self,
        name: str,
        argv: list[str],
        env: Mapping[str, str],
        is_ready: Callable[[int], bool] = lambda _pid: True,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> ProcessSpec:
        return ProcessSpec(
            name=name,
            argv=argv,
            env=env,
            log=self.log_file(name),
            cwd=self.home.root,
            is_ready=is_ready,
            stop_signal=stop_signal,
        )

    def _postgres_is_ready(self, pid: int) -> bool:
        return postgres.is_accepting(self.home.postgres, pid)

    def _valkey_is_ready(self, _pid: int) -> bool:
        return valkey.is_ready(self.sockets)

    def _wrote_its_state(self, name: str) -> Callable[[int], bool]:
        return lambda pid: (statefile.read(self.state_file(name)) or {}).get("pid") == pid


SERVICE_MODULES = {
    "gateway": "inference_gateway",
    "dispatch": "inference_gateway.dispatch",
    "operator": "inference_operator.local",
}


def python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def base_url(host: str, port: int) -> str:
    """A URL at which this machine reaches the address."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - no bind
    return f"http://{f'[{reached}]' if ':' in reached and reached[0] != '[' else reached}:{port}"


def of(home: Home, host: str, port: int) -> Stack:
    return Stack(home, host, port, home.sockets(), os.environ)
