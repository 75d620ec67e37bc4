"""How much an account may have: models, replicas, tokens, open predictions, stored bytes."""
