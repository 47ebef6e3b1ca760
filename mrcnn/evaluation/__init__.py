"""Metrics of detections and proposals."""
