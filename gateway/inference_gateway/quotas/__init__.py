"""Quotas of accounts: models, replicas, tokens, open predictions, stored bytes."""
