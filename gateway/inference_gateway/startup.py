"""Reads the settings from the environment; one clear line per error."""

from __future__ import annotations

from pydantic import ValidationError

from inference_contract import field_errors
from inference_gateway.settings import GatewaySettings


class ConfigurationError(Exception):
    """The configuration is invalid; the message says what to do."""


def read_settings() -> GatewaySettings:
    """Raises ConfigurationError, a line per setting, each naming its environment variable."""
    try:
        return GatewaySettings()
    except ValidationError as error:
        raise ConfigurationError(field_errors.of_settings(error, GatewaySettings)) from None
