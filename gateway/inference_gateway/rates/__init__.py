"""How many requests a caller may make: by API token, by account, by address."""
