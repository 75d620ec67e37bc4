"""The gateway: REST API (`python -m inference_gateway`) and dispatch (`….dispatch`)."""
