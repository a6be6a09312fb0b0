"""``nni-diffnas calibrate``: which cheap protocol ranks networks as a long training does."""
