"""Files of unknown source read safely, and files written atomically."""
