"""One request, from the socket to its transcript. Knows HTTP and event streams, and no API."""
