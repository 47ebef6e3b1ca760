"""Weight files: their contents, loading, saving, released files and checkpoints."""
