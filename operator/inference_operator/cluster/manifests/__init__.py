"""The children of an InferenceModel: pure functions, a file per kind."""
