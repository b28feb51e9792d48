"""The page of `demo/web.py`, in parts."""
