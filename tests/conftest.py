"""What holds for every test: no hub is asked for anything, and slow machines are no failures."""

import os

from hypothesis import settings

# Before any test imports transformers or open_clip: a test that needs the network must fail, not wait.
os.environ["HF_HUB_OFFLINE"] = "1"

settings.register_profile("mmret", deadline=None, max_examples=50)
settings.load_profile("mmret")
