"""Fuzzers, for a set time: ``make fuzz``. What they find becomes a test in ``tests/unit``."""
