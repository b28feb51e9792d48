"""The web page for trained models, in parts. `app.py` needs the extra `web`, the others do not."""
