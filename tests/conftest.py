"""Settings for every test: hypothesis draws the same examples each run, and says how to repeat a failing one."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")
