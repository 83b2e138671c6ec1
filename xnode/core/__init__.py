"""The rule book: values in, values out. No clock, socket, disk, thread, log or randomness is imported here."""
