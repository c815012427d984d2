"""Whether a job can work on this machine and what it takes, before it starts.

from cyberhost_model.doctor import examine, plan
examine("tiny").problems
plan(lambda host: host.animate("picture.jpg", "speech.wav")).estimate
"""

from cyberhost_model.doctor.counted import Counted
from cyberhost_model.doctor.examination import Examination, examine
from cyberhost_model.doctor.machine import Machine
from cyberhost_model.doctor.plan import Plan, plan
from cyberhost_model.doctor.trial import Estimate, estimate

__all__ = ["Counted", "Estimate", "Examination", "Machine", "Plan", "estimate", "examine", "plan"]
