"""From an image file to a batch: decoding, augmentation, cache, loader."""
