"""Data, models, losses, the training loop and prediction.

Knows nothing of the ledger, of MLflow or of the command line: the loop reports to a `RunLogger`.
"""

import os

# albumentations asks the network for its newest version when it is imported; a training box may
# have none.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # noqa: TID251
