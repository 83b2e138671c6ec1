"""What all tests share: property tests draw the same examples in every run, and no deadline reads a loaded machine.

`pytest --hypothesis-profile search` draws new ones, and more of them, to look for what the fixed ones miss.
"""

from hypothesis import settings

settings.register_profile("xnode", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("xnode")

pytest_plugins = ["tests.support.devnet"]
