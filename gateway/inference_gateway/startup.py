"""From the environment to settings, or to one clear line per mistake."""

from __future__ import annotations

from pydantic import ValidationError

from inference_gateway.settings import GatewaySettings


class ConfigurationError(Exception):
    """The process cannot start as it is configured; the message says what to do."""


def read_settings() -> GatewaySettings:
    """Raises ConfigurationError, a line per setting, each naming its environment variable."""
    try:
        return GatewaySettings()
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None


def explain(error: ValidationError) -> str:
    lines = []
    # Without the values: a secret must not reach a log.
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        name = str(item["loc"][0]) if item["loc"] else "settings"
        field = GatewaySettings.model_fields.get(name)
        about = (field.description if field else None) or ""
        problem = "is not set" if item["type"] == "missing" else _words(item["msg"])
        lines.append(f"{name.upper()} {problem}" + (f" ({about.rstrip('.')})" if about else ""))
    return "\n".join(lines)


def _words(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message.replace("Input should", "should")
