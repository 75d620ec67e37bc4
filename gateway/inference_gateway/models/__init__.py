"""InferenceModels: where they are kept, a cache of them, and their routes."""
