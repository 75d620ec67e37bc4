"""InferenceModels: their stores, the catalog, and the routes."""
