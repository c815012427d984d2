"""Whether a job can work on this machine and what it takes, before it starts.

from cyberhost_model.doctor import examine, plan
examine("tiny").problems
plan(lambda host: host.animate("picture.jpg", "speech.wav")).estimate
"""

from cyberhost_model.doctor.costs import CountedEstimate, Estimate, estimate
from cyberhost_model.doctor.examination import Examination, examine
from cyberhost_model.doctor.machine import Machine
from cyberhost_model.doctor.plan import Plan, plan

__all__ = ["CountedEstimate", "Estimate", "Examination", "Machine", "Plan", "estimate", "examine", "plan"]
