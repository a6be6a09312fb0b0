"""Trains block supernets, retrains students, and scores both against their teacher's data."""
