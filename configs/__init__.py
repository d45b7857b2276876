"""Schema of an experiment, its presets, and its JSON form."""
