"""One request, from the socket to its record."""
