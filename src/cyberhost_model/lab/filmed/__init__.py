"""Turn raw videos of people into labelled clips (`cyberhost data prepare`)."""
