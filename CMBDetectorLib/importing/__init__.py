"""Reading models that others published, from the files that the user downloaded."""
