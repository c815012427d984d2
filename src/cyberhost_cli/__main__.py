"""`python -m cyberhost_cli`."""

import sys

from cyberhost_cli.main import main

sys.exit(main())
