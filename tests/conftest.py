"""What all tests share: property tests draw the same examples in every run, and no deadline reads a loaded machine."""

from hypothesis import settings

settings.register_profile("xnode", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("xnode")
