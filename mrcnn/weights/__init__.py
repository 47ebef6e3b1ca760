"""Weight files to layers and back."""
