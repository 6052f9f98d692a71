"""Comparing detections with the truth."""
