"""Look into data and models: duplicates, suspects, survey, heat maps, cut-outs."""
