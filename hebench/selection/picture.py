"""The picture of a decision: scores with errors, the smoothed curve, the set of equals, the choice.

>>> write_bytes_atomically(Path("selection.png"), picture(decision))
"""

import io

from hebench.selection.rules import Decision


def picture(decision: Decision) -> bytes:
    """Return the decision as a PNG; scores in percent over training steps."""
    # The figure itself, not pyplot: that keeps state and looks for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    on = [each for each in decision.candidates if not each.averaged]
    off = [each for each in decision.candidates if each.averaged]
    for group, marker in ((on, "o"), (off, "D")):
        for equal in (True, False):
            shown = [each for each in group if each.equal == equal]
            if shown:
                axes.errorbar(
                    [each.step for each in shown],
                    [100 * each.score for each in shown],
                    yerr=[100 * each.standard_error for each in shown],
                    fmt=marker,
                    markersize=5,
                    linewidth=1,
                    color="tab:blue" if equal else "tab:gray",
                    label=_label(marker, equal=equal),
                )
    axes.plot(
        [each.step for each in on],
        [100 * each.smoothed for each in on],
        color="tab:blue",
        linewidth=1,
        label="smoothed over neighbours",
    )
    chosen = next(each for each in decision.candidates if each.checkpoint == decision.chosen)
    axes.plot(
        [chosen.step],
        [100 * chosen.score],
        marker="o",
        markersize=14,
        fillstyle="none",
        linestyle="none",
        color="tab:red",
        label=f"chosen: {chosen.checkpoint}",
    )
    axes.set_xlabel("training step")
    axes.set_ylabel("mean score, % (bars: one standard error)")
    axes.set_title(f"rule {decision.rule}, {len(decision.equals)} cannot be told from the best")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _label(marker: str, *, equal: bool) -> str:
    what = "average of weights" if marker == "D" else "checkpoint"
    return f"{what}, {'cannot be told from the best' if equal else 'behind the best'}"
