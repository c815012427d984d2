"""Measure the structure of a checkout: `python scripts/house_table.py [ROOT ...]` prints a table, a column each.

Rooms are the folders and top files of `cyberhost_model` (of `lab`, where there is one), and the command line as one.
Late imports count. Needs grimp, which import-linter brings, and networkx, which torch brings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

LIMIT, SMALL = 120, 40  # columns of a line; lines of a file that is hardly worth opening


def room(module: str) -> str:
    """The room a module stands in."""
    parts = module.split(".")
    if parts[0] == "cyberhost_cli":
        return "cli"
    if len(parts) == 1:
        return "(package)"
    return ".".join(parts[1:3]) if parts[1] == "lab" and len(parts) > 2 else parts[1]


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Groups of nodes that reach each other."""
    import networkx

    graph = networkx.DiGraph([(a, b) for a, targets in edges.items() for b in targets])
    return [group for group in networkx.strongly_connected_components(graph) if len(group) > 1]


def loaded(statement: str) -> str:
    """How many modules a statement loads in a fresh interpreter: "ours of all"."""
    code = f"{statement}; import sys; print(sum(n.startswith('cyberhost') for n in sys.modules), len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return " of ".join(done.stdout.split())


def measure(root: Path) -> dict[str, object]:
    """Name -> figure of the checkout that this process imports from."""
    import grimp

    texts = {path: path.read_text(encoding="utf-8").splitlines() for path in (root / "src").rglob("*.py")}
    graph = grimp.build_graph("cyberhost_model", "cyberhost_cli")
    files = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    rooms: dict[str, set[str]] = {}
    for module, targets in files.items():
        rooms.setdefault(room(module), set()).update({room(target) for target in targets} - {room(module)})
    knots = circles(rooms)

    def tied(a: str, b: str) -> bool:
        return room(a) != room(b) and any({room(a), room(b)} <= knot for knot in knots)

    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True)
    total = sum(map(len, texts.values()))
    return {
        "commit": head.stdout.strip(),
        "rooms": len(rooms),
        "files": len(texts),
        "lines": total,
        "mean lines of a file": round(total / len(texts)),
        f"files under {SMALL} lines": sum(len(t) < SMALL and p.name != "__init__.py" for p, t in texts.items()),
        f"lines over {LIMIT} columns": sum(len(line) > LIMIT for text in texts.values() for line in text),
        "rooms that import each other in circles": sum(map(len, knots)),
        "imports within those circles": sum(tied(a, b) for a, targets in files.items() for b in targets),
        "circles of files": len(circles({module: set(targets) for module, targets in files.items()})),
        "modules loaded by `import cyberhost_model`, ours of all": loaded("import cyberhost_model"),
        "by `from cyberhost_model import CyberHost`": loaded("from cyberhost_model import CyberHost"),
    }


def measured_apart(root: Path) -> dict[str, object]:
    """`measure` in a process that imports from `root`."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    words = [sys.executable, __file__, "--json", str(root)]
    return json.loads(subprocess.run(words, capture_output=True, text=True, env=environment, check=True).stdout)


def main() -> None:
    if sys.argv[1:2] == ["--json"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
        return
    roots = [Path(word).resolve() for word in sys.argv[1:]] or [Path(__file__).resolve().parents[1]]
    columns = [measured_apart(root) for root in roots]
    print("| | " + " | ".join(str(column["commit"]) for column in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in [name for name in columns[0] if name != "commit"]:
        print(f"| {name} | " + " | ".join(f"{column[name]}" for column in columns) + " |")


if __name__ == "__main__":
    main()
