"""Tables, documents and pictures for people."""
