"""``python -m tenzing.cli``."""

import sys

from tenzing.cli import main

sys.exit(main())
