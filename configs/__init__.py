"""The schema of an experiment, its presets, and how they are written down."""
