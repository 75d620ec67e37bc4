"""Stands in for the runner: keeps the contract, holds no model."""
