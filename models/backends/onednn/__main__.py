"""python -m models.backends.onednn: compile the extension, unless it is there and loads."""

import sys

from models.backends.onednn.build import main

sys.exit(main())
