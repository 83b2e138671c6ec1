"""Finding proof of work: the only room that knows its kernel."""
