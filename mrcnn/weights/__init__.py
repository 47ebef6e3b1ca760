"""Weight files: what they hold, loading, saving, released files and checkpoints."""
