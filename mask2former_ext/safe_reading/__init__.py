"""Files from elsewhere as data: one restricted reader of yaml, one of pickles and zips. Nothing in them is executed."""
