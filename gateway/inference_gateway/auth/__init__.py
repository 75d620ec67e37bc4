"""Accounts, passwords, access tokens (JWT) and API tokens."""
