"""Commands that are a command themselves and have others beside it."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

RUN = "run"


class RunByDefault(TyperGroup):
    """`eval VIDEOS ...` is `eval run VIDEOS ...`: what is no command's name belongs to `run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if not args or args[0] in own else [RUN, *args])
