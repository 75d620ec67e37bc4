"""The contract: the definitions that gateway, operator and runner share.

Imports pydantic and the standard library only, so that every image can hold it.
"""
