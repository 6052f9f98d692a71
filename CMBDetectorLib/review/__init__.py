"""A reader's session over a list of lesions: verdicts, edits, undo, and the record of it all."""
