"""What to build: targets, families and their parameters, spec sets and model shapes."""
