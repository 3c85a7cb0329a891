interface ChartLine {
  name: string
  /** One for each place on the x axis. */
  values: readonly number[]
}

export interface Chart {
  title: string
  xTitle: string
  yTitle: string
  xLabels: readonly string[]
  lines: readonly ChartLine[]
}

const WIDTH = 760
const HEIGHT = 420
const PLOT = { left: 60, top: 56, right: 590, bottom: 360 }
/** How far apart the names at the right must be to be read. */
const NAME_HEIGHT = 17
/** Told apart also without colour, as each line has its name beside its end. The first two are ours. */
const COLOURS = ['#0b6bcb', '#5aa9e6', '#c2410c', '#7c3aed', '#15803d', '#a16207']

/** A line chart as the text of an SVG. The places of the x axis are equally far apart. */
export function lineChart({ title, xTitle, yTitle, xLabels, lines }: Chart): string {
  const top = Math.ceil(Math.max(...lines.flatMap(({ values }) => values)) * 2) / 2
  const x = (place: number) => PLOT.left + ((PLOT.right - PLOT.left) * place) / (xLabels.length - 1)
  const y = (value: number) => PLOT.bottom - ((PLOT.bottom - PLOT.top) * value) / top
  const nameYs = spread(lines.map(({ values }) => y(values.at(-1) as number)))
  const grid = Array.from({ length: top * 2 + 1 }, (_, step) => step / 2)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="13">`,
    `<title>${escapeXml(title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(PLOT.left, 26, title, 'font-size="16" font-weight="600"'),
    text(PLOT.left, 44, yTitle, 'fill="#555555"'),
    ...grid.flatMap((value) => [
      `<path d="M${PLOT.left} ${round(y(value))}H${PLOT.right}" stroke="#dddddd"/>`,
      text(PLOT.left - 8, y(value) + 4, value.toFixed(1), 'text-anchor="end" fill="#555555"'),
    ]),
    ...xLabels.map((label, place) =>
      text(x(place), PLOT.bottom + 20, label, 'text-anchor="middle" fill="#555555"'),
    ),
    text((PLOT.left + PLOT.right) / 2, PLOT.bottom + 42, xTitle, 'text-anchor="middle" fill="#555555"'),
    ...lines.flatMap(({ name, values }, index) => {
      const colour = COLOURS[index % COLOURS.length]
      const points = values.map((value, place) => `${round(x(place))},${round(y(value))}`)
      return [
        `<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="${index < 2 ? 3 : 2}"/>`,
        ...points.map((point) => `<circle cx="${point.replace(',', '" cy="')}" r="3" fill="${colour}"/>`),
        text(PLOT.right + 12, (nameYs[index] as number) + 4, name, `fill="${colour}"`),
      ]
    }),
    '</svg>',
    '',
  ].join('\n')
}

/** Moves places apart that are too near to each other, downwards from the top and back up from the bottom. */
function spread(places: readonly number[]): number[] {
  const order = places.map((_, index) => index).sort((a, b) => (places[a] as number) - (places[b] as number))
  const spreadOut = [...places]
  let least = Number.NEGATIVE_INFINITY
  for (const index of order) {
    spreadOut[index] = Math.max(spreadOut[index] as number, least)
    least = (spreadOut[index] as number) + NAME_HEIGHT
  }
  let most = PLOT.bottom
  for (const index of order.toReversed()) {
    spreadOut[index] = Math.min(spreadOut[index] as number, most)
    most = (spreadOut[index] as number) - NAME_HEIGHT
  }
  return spreadOut
}

function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escapeXml(content)}</text>`
}

function round(place: number): string {
  return String(Math.round(place * 10) / 10)
}

function escapeXml(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
