"""What runs at a terminal: the bodies of the scripts and of the console command. It writes by `tqdm.write`."""

import warnings

# Of fvcore's own lines, on every start; nothing that a person at a terminal can change.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
