"""Boxes, masks and curves drawn on arrays (OpenCV) and in matplotlib figures."""
