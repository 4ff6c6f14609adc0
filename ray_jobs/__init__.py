"""Only where things run: Ray actors and job entry points."""
