"""What a clip is conditioned on, as maps and numbers: poses, body movement, hand clarity (paper, section 3.3)."""
