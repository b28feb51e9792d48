"""What runs at a terminal: the bodies of the scripts and of the console command. This room may print."""
