"""Speed and memory of the operations, beside what a user would pick instead."""
