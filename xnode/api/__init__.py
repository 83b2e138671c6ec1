"""The HTTP API: one file a noun, each handler parses, calls one function, renders. The only room that knows HTTP."""
