"""The contract: everything that gateway, operator and runner agree on.

Imports pydantic and the standard library only, so that every image can hold it.
"""
