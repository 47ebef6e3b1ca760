"""Boxes, masks and curves as images."""
