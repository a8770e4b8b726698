"""One run, from its first request to its summary, without Locust and gevent."""
