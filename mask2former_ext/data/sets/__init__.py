"""Where records come from: published data sets, the user's own, synthetic ones."""
