"""Data, models, losses, the training loop and prediction.

Knows nothing of the ledger, of MLflow or of the command line: the loop reports to a `RunLogger`.
"""

import os

# albumentations asks the network for its newest version when it is imported; a training box may
# have none.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # noqa: TID251
# OpenCV would take 3 GB for what a damaged header says; this is the size that Pillow refuses.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2 * 89_478_485))  # noqa: TID251
# libgomp's threads would wait in a loop, on cores that loader processes and other programs need;
# these sleep. It is read when torch is imported. OMP_WAIT_POLICY is the user's own.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # noqa: TID251
