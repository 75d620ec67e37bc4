"""Rate limits by API token, account and address."""
