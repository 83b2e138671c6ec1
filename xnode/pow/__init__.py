"""The proof-of-work solver. The only room that knows its kernel."""
