"""Data, models, losses, the training loop and prediction.

Knows nothing of the ledger, of MLflow or of the command line: the loop reports to a `RunLogger`.
"""

import os

# albumentations asks the network for its newest version when it is imported; a training box may
# have none.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # noqa: TID251
# OpenCV would take 3 GB for what a damaged header says; this is the size that Pillow refuses.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2 * 89_478_485))  # noqa: TID251
# libgomp's threads wait for the next operation in a loop of 300,000 turns, on cores that loader
# processes and other trainings need. Here they sleep after 1,000; without any turn, models of many
# small operations take a third longer. Read when torch is imported; what the user has set counts.
if "OMP_WAIT_POLICY" not in os.environ:  # noqa: TID251
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # noqa: TID251
