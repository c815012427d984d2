"""Whether a job can work on this machine and what it takes, before it starts.

    from cyberhost_model.doctor import examine, plan
    examine("tiny").problems
    plan(lambda host: host.animate("picture.jpg", "speech.wav")).estimate
"""

from .counted import Counted
from .examination import Examination, examine
from .machine import Machine
from .plan import Plan, plan
from .trial import Estimate, estimate

__all__ = ["Counted", "Estimate", "Examination", "Machine", "Plan", "estimate", "examine", "plan"]
