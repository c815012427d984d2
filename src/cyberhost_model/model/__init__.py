"""The paper's networks (Figure 2)."""
