"""`python -m generator` is `gen`."""

import sys

from generator.cli import main

sys.exit(main())
