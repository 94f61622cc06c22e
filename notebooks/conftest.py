"""The notebooks as tests: small settings, no installation."""

import os

os.environ["PADAM_SMOKE"] = "1"
