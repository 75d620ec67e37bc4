"""The operator: turns InferenceModels into running runners."""
