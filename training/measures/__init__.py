"""The development measures of the detector, always taken and printed together.

Simulated heads, false positives in a real healthy head, recall of lesions implanted into it, and
annotated real scans: a model that gains in one of them may lose in another.
"""
