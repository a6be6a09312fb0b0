"""The life of one trial, and the file that it leaves."""
