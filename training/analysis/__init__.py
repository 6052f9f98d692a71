"""``python -m training analyze``: what the lesions and scans of a dataset are like."""
