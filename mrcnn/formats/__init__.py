"""Annotation formats: one reader and writer a file."""
