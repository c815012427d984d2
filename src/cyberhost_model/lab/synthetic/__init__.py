"""Synthetic people: photo puppets and drawn people that speak, with exact labels (`cyberhost data synth`)."""
