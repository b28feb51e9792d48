"""What a model learns from: one file for each kind of truth, and the codecs of masks that they share."""
