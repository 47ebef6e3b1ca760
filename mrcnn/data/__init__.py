"""From a Dataset to batches of training."""
