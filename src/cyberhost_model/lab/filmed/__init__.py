"""Filmed people: raw videos become labelled clips (`cyberhost data prepare`)."""
