"""The runner: one loaded model that consumes its queue (`python -m inference_runner`)."""
