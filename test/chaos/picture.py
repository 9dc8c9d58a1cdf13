"""A run as a picture (SVG): strips of twenty seconds, a row for each thing that was recorded, stripes for complaints."""
import html
from typing import NamedTuple

SECONDS, SCALE = 20, 60          # of a strip; pixels a second
LEFT, TOP, ROW, BETWEEN = 120, 34, 20, 30
COLOURS = ["#4477aa", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#ee8866"]
FAULT, TWO, DARK, FOREIGN = "#f4b8a8", "#dd0000", "#000000", "#bbbbbb"


class Box(NamedTuple):
    begin: float
    end: float
    colour: str
    label: str
    title: str  # what a pointer on it shows


def colour_of(name, names):
    return COLOURS[names.index(name) % len(COLOURS)] if name in names else FOREIGN


def answer_boxes(spans, names, start):
    """Who answered: each node its colour, two red, nobody black."""
    for begin, end, who in spans:
        label = "+".join(sorted(who)) or "nobody"
        colour = DARK if not who else TWO if len(who) > 1 else colour_of(label, names)
        yield Box(begin, end, colour, label, f"{label} {begin - start:.3f} s, for {1000 * (end - begin):.0f} ms")


class Picture:
    def __init__(self, title, begin, end):
        self.title, self.begin, self.end = title, begin, end
        self.rows, self.marks = [], []

    def row(self, name, boxes, height=ROW):
        self.rows.append((name, list(boxes), height))

    def mark(self, begin, end, title):
        """A stripe through all rows."""
        self.marks.append((begin, end, title))

    def svg(self):
        rows = sum(height for _, _, height in self.rows)
        count = int((self.end - self.begin) / SECONDS) + 1
        height = TOP + count * (rows + BETWEEN)
        lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + SECONDS * SCALE + 20}" height="{height}" '
                 'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>',
                 f'<text x="8" y="20" font-size="14">{html.escape(self.title)}</text>']
        for number in range(count):
            lines += self._strip(self.begin + number * SECONDS, TOP + number * (rows + BETWEEN), rows)
        return "\n".join([*lines, "</svg>", ""])

    def _strip(self, start, top, rows):
        def within(items):
            for item in items:
                if item[1] >= start and item[0] < start + SECONDS:
                    x = LEFT + SCALE * max(0.0, item[0] - start)
                    yield item, x, max(1.5, LEFT + SCALE * min(SECONDS, item[1] - start) - x)

        for second in range(SECONDS + 1):
            x = LEFT + SCALE * second
            yield (f'<line x1="{x}" x2="{x}" y1="{top}" y2="{top + rows}" stroke="#000" stroke-opacity="0.12"/>'
                   f'<text x="{x}" y="{top + rows + 12}" fill="#666">{start - self.begin + second:.0f}</text>')
        y = top
        for name, boxes, height in self.rows:
            yield f'<text x="8" y="{y + height - 6}">{html.escape(name)}</text>'
            for box, x, width in within(boxes):
                yield (f'<g><title>{html.escape(box.title)}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" '
                       f'height="{height - 3}" fill="{box.colour}"/></g>')
                if len(box.label) * 6 < width or box.colour == FAULT:
                    yield f'<text x="{x + 2:.1f}" y="{y + height - 7}">{html.escape(box.label)}</text>'
            y += height
        for mark, x, width in within(self.marks):
            yield (f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{rows}" fill="{TWO}" fill-opacity="0.2">'
                   f'<title>{html.escape(mark[2])}</title></rect>')
