"""Published checkpoints as diffjax's own: one file per code base."""
