"""Conditions of a clip as maps and numbers: poses, body movement, hand clarity (paper, section 3.3)."""
