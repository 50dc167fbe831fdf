"""What is shown of the measurements: a table and a chart for each scenario."""

from pathlib import Path
from statistics import median

# Told apart also by those who do not see colours as most do (Okabe and Ito).
COLOURS = {"selvedge": "#0072b2", "nginx": "#009e73", "haproxy": "#e69f00", "envoy": "#cc79a7", "direct": "#999999"}
# Libraries, not proxies.
COLOURS |= {"h2": "#d55e00", "hyper": "#d55e00"}


def show(value):
    """Three digits are all that such a measurement is worth."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


class Result:
    """The figures of one scenario: by peer, by column, one for each round."""

    def __init__(self, name, title, columns, charted):
        self.name, self.title, self.columns, self.charted = name, title, columns, charted
        self.rounds = {}

    def add(self, peer, figures):
        for column, value in figures.items():
            if value is not None:
                self.rounds.setdefault(peer, {}).setdefault(column, []).append(value)

    def of(self, peer, column):
        """The median of the rounds."""
        values = self.rounds.get(peer, {}).get(column)
        return median(values) if values else None

    def add_differences(self, columns):
        """What each peer adds to `direct`, by the medians."""
        for peer, column in [(peer, column) for peer in self.rounds for column in columns]:
            if peer != "direct":
                self.add(peer, {f"{column} added": self.of(peer, column) - self.of("direct", column)})

    def table(self):
        used = [column for column in self.columns if any(column in figures for figures in self.rounds.values())]
        lines = [f"| | {' | '.join(used)} |", f"|---|{'---:|' * len(used)}"]
        for peer in self.rounds:
            cells = [show(self.of(peer, column)) for column in used]
            lines.append(f"| {peer} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def chart(self):
        """Bars of the column that matters most."""
        bars = [(peer, self.of(peer, self.charted)) for peer in self.rounds]
        bars = [(peer, value) for peer, value in bars if value is not None]
        most = max((value for _, value in bars), default=1) or 1
        height = 40 + 26 * len(bars)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{height}" font-family="sans-serif" font-size="13">',
            f'<rect width="640" height="{height}" fill="white"/>',
            f'<text x="10" y="20" font-weight="bold">{self.title}: {self.charted}</text>',
        ]
        for row, (peer, value) in enumerate(bars):
            y = 34 + 26 * row
            width = 440 * value / most
            parts.append(f'<text x="10" y="{y + 14}">{peer}</text>')
            parts.append(f'<rect x="90" y="{y}" width="{width:.1f}" height="18" fill="{COLOURS.get(peer, COLOURS["selvedge"])}"/>')
            parts.append(f'<text x="{96 + width:.1f}" y="{y + 14}">{show(value)}</text>')
        return "\n".join([*parts, "</svg>"]) + "\n"


def write(results, settings, folder, budgets=""):
    """Writes the tables and charts, the budgets first; the text of the tables."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = ["# Selvedge beside its peers\n", settings + "\n", budgets]
    for result in results:
        parts.append(f"## {result.title}\n\n{result.table()}\n\n![{result.title}]({result.name}.svg)\n")
        (folder / f"{result.name}.svg").write_text(result.chart())
    text = "\n".join(parts)
    (folder / "README.md").write_text(text)
    return text
