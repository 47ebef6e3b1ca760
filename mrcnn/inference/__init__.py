"""Detection with a trained network."""
