"""Experiments ready to run; each opens with its command and the result it gave."""
