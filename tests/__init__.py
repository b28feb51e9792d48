"""The tests, and in the files of this folder what they share."""
