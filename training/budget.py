"""When a training ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """When training ends: after ``steps`` or ``seconds`` of training, whichever comes first."""

    steps: int | None
    seconds: float | None

    @classmethod
    def of(cls, steps: int | None, max_minutes: float | None, usual_steps: int) -> Budget:
        """As asked for; the usual number of steps if neither steps nor minutes were."""
        if steps is None and max_minutes is None:
            steps = usual_steps
        return cls(steps, None if max_minutes is None else 60 * max_minutes)

    def spent(self, step: int, elapsed_s: float) -> float:
        """Share of the budget that is used up, 0 to 1; the learning rate follows it."""
        shares = [0.0]
        for used, given in ((step, self.steps), (elapsed_s, self.seconds)):
            if given is not None:
                shares.append(used / given if given > 0 else 1.0)
        return min(1.0, max(shares))

    def left_s(self, step: int, elapsed_s: float) -> float:
        """Seconds that are left, at the pace so far."""
        spent = self.spent(step, elapsed_s)
        return elapsed_s * (1 - spent) / max(spent, 1e-6)
