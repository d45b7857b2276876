"""The one training loop: optimizer, sharding, checkpoints, metrics."""
