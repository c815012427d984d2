"""The paper's Table 1 for models of one's own: train each row from one base, animate, measure. No training loop of its own.

    rows.py      which rows there are, and a budget in steps or minutes
    heldout.py   clips nobody trained on
    run.py       `ablate`: base -> rows -> videos -> values -> table
"""
