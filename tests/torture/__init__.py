"""The long tests of reliability: ``make torture``, or ``python -m tests.torture PART``."""
