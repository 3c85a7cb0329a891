import { runInNewContext } from 'node:vm'
import { type } from 'arktype'
import { asText, defineEvents, type EventRules, type ViewerEvent, type ViewerEvents } from 'express-sse-guard'
import * as v from 'valibot'
import { z } from 'zod'
import { type FrameResult, frameEvent } from '../lib/events/frame-event.js'
import { rulesOf } from '../lib/events/viewer-events.js'

/** The frame of one event, or why there is none. */
const flat = (result: FrameResult) => (result.ok ? result.frame : result.reason)

/** What one event becomes under a whitelist. */
function through(whitelist: ViewerEvents, item: unknown) {
  const rules = rulesOf(whitelist)
  if (!rules) throw new Error('not a whitelist')
  const result = frameEvent(rules, item)
  return result instanceof Promise ? result.then(flat) : flat(result)
}

/** What one event becomes under these rules. */
const framed = (rules: EventRules, item: unknown) => through(defineEvents(rules), item)

/** What of a payload is written under one rule. */
function written(rule: EventRules[string], data: unknown) {
  const result = framed({ e: rule }, { event: 'e', data })
  return typeof result === 'object' && 'text' in result ? result.text : result
}

describe('a rule', () => {
  test('true writes the whole payload, and null for none', () => {
    expect(written(true, { a: [1, 'x'] })).toBe('event: e\ndata: {"a":[1,"x"]}\n\n')
    expect(written(true, undefined)).toBe('event: e\ndata: null\n\n')
  })

  test('an array keeps the top-level fields it names, and of those only the own ones', () => {
    const data = Object.assign(Object.create(null), { a: 1, b: { c: 2 }, secret: 3 })
    expect(written(['a', 'b', 'gone', 'toString'], data)).toBe('event: e\ndata: {"a":1,"b":{"c":2}}\n\n')
    expect(written([], { a: 1 })).toBe('event: e\ndata: {}\n\n')
  })

  test('an array keeps nothing that a payload inherits', () => {
    const inherited = Object.create(Object.assign(Object.create(null), { secret: 1 }))
    inherited.a = 1
    expect(written(['a', 'secret', '__proto__'], inherited)).toBe('event: e\ndata: {"a":1}\n\n')
    expect(written(['a', '__proto__'], { a: 1 })).toBe('event: e\ndata: {"a":1}\n\n')
  })

  test('an array keeps fields of a payload from another realm', () => {
    expect(written(['a'], runInNewContext('({ a: 1, secret: 2 })'))).toBe('event: e\ndata: {"a":1}\n\n')
  })

  test('an array treats __proto__ as a field like any other', () => {
    const data = JSON.parse('{"__proto__":{"admin":true},"a":1}')
    expect(written(['a'], data)).toBe('event: e\ndata: {"a":1}\n\n')
    expect(written(['__proto__'], data)).toBe('event: e\ndata: {"__proto__":{"admin":true}}\n\n')
  })

  test.each([
    ['null', null],
    ['an array', [1]],
    ['a string', 'a'],
    ['nothing', undefined],
    ['a Date', new Date()],
  ])('an array withholds a payload that is no plain object: %s', (_, data) => {
    expect(written(['a'], data)).toBe('invalid')
  })

  test.each([
    ['zod', z.object({ a: z.number() })],
    ['valibot', v.object({ a: v.number() })],
    ['arktype', type({ '+': 'delete', a: 'number' })],
  ])('a schema of %s writes what it returns and withholds what it refuses', (_, schema) => {
    expect(written(schema, { a: 1, secret: 2 })).toBe('event: e\ndata: {"a":1}\n\n')
    expect(written(schema, { a: 'x', secret: 2 })).toBe('invalid')
  })

  test('a schema may transform, be async, or throw', async () => {
    expect(
      written(
        z.number().transform((n) => n * 2),
        2,
      ),
    ).toBe('event: e\ndata: 4\n\n')
    const later = z.object({ a: z.number() }).refine(async ({ a }) => a < 3)
    await expect(framed({ e: later }, { event: 'e', data: { a: 1, b: 2 } })).resolves.toMatchObject({
      text: 'event: e\ndata: {"a":1}\n\n',
    })
    await expect(framed({ e: later }, { event: 'e', data: { a: 5 } })).resolves.toBe('invalid')
    const rejects = v.pipeAsync(
      v.string(),
      v.checkAsync(() => Promise.reject(new Error('secret'))),
    )
    await expect(framed({ e: rejects }, { event: 'e', data: '' })).resolves.toBe('invalid')
    const throws = z.string().refine(() => {
      throw new Error('secret')
    })
    await expect(framed({ e: throws }, { event: 'e', data: '' })).resolves.toBe('invalid')
    const standard = {
      version: 1,
      vendor: 'test',
      validate: () => {
        throw new Error('secret')
      },
    } as const
    expect(written({ '~standard': standard }, '')).toBe('invalid')
  })

  test('that wants the whole payload does not await one that looks like a promise', () => {
    let called = false
    const data = {
      // biome-ignore lint/suspicious/noThenProperty: it is what is tested
      then() {
        called = true
      },
      a: 1,
    }
    expect(written(true, data)).toBe('event: e\ndata: {"a":1}\n\n')
    expect(called).toBe(false)
  })
})

describe('an event', () => {
  const rules = { e: true } as const

  test.each([
    [undefined, 'invalid'],
    [null, 'invalid'],
    ['e', 'invalid'],
    [Object.assign(() => {}, { event: 'e' }), 'invalid'],
    [{}, 'invalid'],
    [{ event: 1 }, 'invalid'],
    [{ event: ['e'] }, 'invalid'],
    [{ event: 'other' }, 'unlisted'],
    [{ event: 'E' }, 'unlisted'],
    [{ event: '' }, 'invalid'],
    [{ event: null }, 'invalid'],
    [{ event: '__proto__' }, 'unlisted'],
    [{ event: 'constructor' }, 'unlisted'],
    [{ event: 'e\ndata: x' }, 'unlisted'],
    [{ event: 'e', id: 1 }, 'bad-id'],
    [{ event: 'e', id: null }, 'bad-id'],
    [{ event: 'e', id: 'a\nb' }, 'bad-id'],
    [{ event: 'e', id: 'a\rb' }, 'bad-id'],
    [{ event: 'e', id: 'a\0b' }, 'bad-id'],
    [{ event: 'e', data: 1n }, 'unserialisable'],
    [{ event: 'e', data: () => {} }, 'unserialisable'],
    [{ event: 'e', data: Symbol('x') }, 'unserialisable'],
    [{ event: 'other', id: 'a\nb', data: 1n }, 'unlisted'],
    [{ event: 'e', id: 'a\nb', data: 1n }, 'bad-id'],
  ])('%p is withheld as %s', (item, why) => {
    expect(framed(rules, item)).toBe(why)
  })

  test('whose id cannot be written is withheld as that before its rule is asked', () => {
    const rule = { '~standard': { version: 1, vendor: 'test', validate: jest.fn() } } as const
    expect(framed({ e: rule }, { event: 'e', id: 'a\nb', data: 5 })).toBe('bad-id')
    expect(rule['~standard'].validate).not.toHaveBeenCalled()
  })

  test('with a cycle is withheld as unserialisable', () => {
    const data: Record<string, unknown> = {}
    data.self = data
    expect(written(true, data)).toBe('unserialisable')
  })

  test('whose getter throws is withheld as invalid', () => {
    const item = {
      event: 'e',
      get data() {
        throw new Error('secret')
      },
    }
    expect(framed(rules, item)).toBe('invalid')
  })

  test('has an id line only if it has an id, which may be empty', () => {
    const text = (id?: string) => framed(rules, { event: 'e', data: 1, id })
    expect(text()).toMatchObject({ text: 'event: e\ndata: 1\n\n' })
    expect(text('')).toMatchObject({ text: 'event: e\nid: \ndata: 1\n\n' })
    expect(text('7 b~')).toMatchObject({ text: 'event: e\nid: 7 b~\ndata: 1\n\n' })
    expect(text('x'.repeat(4096))).toMatchObject({ id: 'x'.repeat(4096) })
  })

  test.each([' 7', '7 ', ' ', 'é', '\u{1f600}', '\x7f', '\t7', '\x1f', 'x'.repeat(4097)])(
    'whose id %j a browser could not send back is withheld as bad-id',
    (id) => expect(framed(rules, { event: 'e', id })).toBe('bad-id'),
  )

  test('without a name, or named message, is written without an event line', () => {
    const text = 'data: 1\n\n'
    expect(framed({ message: true }, { data: 1 })).toMatchObject({ text })
    expect(framed({ message: true }, { event: undefined, data: 1 })).toMatchObject({ text })
    expect(framed({ message: true }, { event: 'message', data: 1 })).toMatchObject({ text })
    expect(framed({ message: true }, { id: '7' })).toMatchObject({ text: 'id: 7\ndata: null\n\n' })
    expect(framed({ message: true }, { data: undefined })).toMatchObject({ text: 'data: null\n\n' })
    expect(framed({ other: true }, { data: 1 })).toBe('unlisted')
    expect(framed({ message: true }, { percent: 1 })).toBe('invalid')
  })

  test('may change the retry, in its block or alone as one line that needs no rule', () => {
    expect(framed(rules, { event: 'e', data: 1, retry: 5 })).toMatchObject({
      text: 'event: e\nretry: 5\ndata: 1\n\n',
      isEvent: true,
    })
    const text = 'retry: 2147483647\n'
    expect(framed({}, { retry: 2147483647 })).toEqual({
      text,
      bytes: text.length,
      id: undefined,
      isEvent: false,
    })
  })

  test.each([0, -1, 1.5, 2147483648, '5', null, Number.NaN])(
    'with the retry %p is withheld as invalid',
    (retry) => {
      expect(framed(rules, { retry })).toBe('invalid')
      expect(framed(rules, { event: 'other', data: 1, retry })).toBe('invalid')
    },
  )

  test.each([
    ['a Promise', () => Promise.resolve(1)],
    // biome-ignore lint/suspicious/noThenProperty: a thenable is what is tested
    ['a thenable, such as a query that was not awaited', () => Object.create({ then: () => {} })],
    ['a Map', () => new Map([['a', 1]])],
    ['a Set', () => new Set([1])],
    ['an Error', () => new Error('secret')],
    ['an Error of another realm', () => runInNewContext('new Error("secret")')],
  ])('whose payload is %s, which JSON would make {}, is withheld as unserialisable', (_, make) => {
    for (const rule of [true, ['a'], z.any(), z.object({}), asText(true)] as const) {
      expect(written(rule, make())).toBe('unserialisable')
    }
    const schema = {
      '~standard': { version: 1, vendor: 'test', validate: () => ({ value: make() }) },
    } as const
    expect(written(schema, 1)).toBe('unserialisable')
  })

  test.each([
    ['nothing', async () => undefined],
    ['a value that cannot be looked at', async () => ({ value: revokedProxy() })],
    ['a rejection', async () => Promise.reject(new Error('secret'))],
  ])('whose async schema resolves with %s is withheld, and nothing is thrown', async (_, validate) => {
    const schema = { '~standard': { version: 1, vendor: 'test', validate } } as never
    await expect(framed({ e: schema }, { event: 'e', data: 1 })).resolves.toBe('invalid')
  })

  test('may carry what has a toJSON', () => {
    const error = Object.assign(new Error('secret'), { toJSON: () => ({ code: 5 }) })
    expect(written(true, error)).toBe('event: e\ndata: {"code":5}\n\n')
    expect(written(true, new Date(0))).toBe('event: e\ndata: "1970-01-01T00:00:00.000Z"\n\n')
  })

  test('stays one line whatever its payload contains', () => {
    const data = 'a\r\nb\rc\nd\u2028e\0\n\nevent: admin\ndata: 1\n\n'
    const json = JSON.stringify(data).replace('\u2028', '\\u2028')
    expect(written(true, data)).toBe(`event: e\ndata: ${json}\n\n`)
  })

  test('has no character in its JSON at which Python ends a line', () => {
    const breaks = '\u0085\u2028\u2029\v\f\x1c\x1d\x1e'
    const data = { [breaks]: breaks }
    const text = written(true, data) as string
    for (const character of breaks) expect(text).not.toContain(character)
    expect(JSON.parse(text.slice('event: e\ndata: '.length))).toEqual(data)
    expect(written(asText(true), data)).toBe(text)
  })
})

describe('asText', () => {
  test.each([
    ['one', 'data: one\n'],
    ['', 'data: \n'],
    [' a\r\n b\rc\n\nd\n', 'data:  a\ndata:  b\ndata: c\ndata: \ndata: d\ndata: \n'],
    ['[DONE]', 'data: [DONE]\n'],
    ['x\n\nevent: admin\ndata: 1', 'data: x\ndata: \ndata: event: admin\ndata: data: 1\n'],
    [undefined, 'data:\n'],
    [null, 'data: null\n'],
    [5, 'data: 5\n'],
    [{ a: '\n' }, 'data: {"a":"\\n"}\n'],
  ])('writes %j as text', (data, lines) => {
    expect(written(asText(true), data)).toBe(`event: e\n${lines}\n`)
  })

  test('writes what the rule inside keeps', async () => {
    expect(written(asText(['a']), { a: 1, secret: 2 })).toBe('event: e\ndata: {"a":1}\n\n')
    expect(written(asText(['a']), 'secret')).toBe('invalid')
    expect(written(asText(z.string()), 5)).toBe('invalid')
    expect(
      written(asText(z.object({ html: z.string() }).transform(({ html }) => html)), { html: '<b>\n</b>' }),
    ).toBe('event: e\ndata: <b>\ndata: </b>\n\n')
    const later = asText(z.string().refine(async () => true))
    await expect(framed({ e: later }, { event: 'e', data: 'a\nb' })).resolves.toMatchObject({
      text: 'event: e\ndata: a\ndata: b\n\n',
    })
  })

  test.each([[asText(true)], [undefined], ['url'], [['a', 1]], [{}]])('refuses %p', (rule) => {
    expect(() => asText(rule as never)).toThrow(/^asText: the rule is .*; give a Standard Schema/)
  })
})

describe('defineEvents', () => {
  test.each([
    ['', 'at least one character'],
    ...['\n', '\r', '\0', '\t', '\v', '\x7f', '\x85', '\u2028', '\u2029'].map((character) => [
      `a${character}b`,
      'control characters and line separators',
    ]),
    ['error', "EventSource fires 'error' itself"],
    ['open', "EventSource fires 'open' itself"],
  ] as [string, string][])('refuses the name %j and says why', (name, reason) => {
    expect(() => defineEvents({ [name]: true })).toThrow(reason)
    expect(() => defineEvents({}).extend({ [name]: true })).toThrow(reason)
  })

  test('lets the reserved names through for protocols that are read with fetch, extend included', () => {
    const protocol = defineEvents({ error: ['type'] }, { allowReservedNames: true })
    expect(through(protocol, { event: 'error', data: { type: 'x' } })).toMatchObject({
      text: 'event: error\ndata: {"type":"x"}\n\n',
    })
    expect(through(protocol.extend({ open: true }), { event: 'open' })).toMatchObject({ isEvent: true })
    expect(() => protocol.extend({ open: true }, { allowReservedNames: false })).toThrow('EventSource fires')
    expect(() => defineEvents({}).extend({ error: true }, { allowReservedNames: true })).not.toThrow()
  })

  test('refuses options that it does not have', () => {
    expect(() => defineEvents({}, { allowReservedName: true } as never)).toThrow(
      'did you mean allowReservedNames?',
    )
    expect(() => defineEvents({}, { allowReservedNames: 'yes' } as never)).toThrow('give true or false')
  })

  // biome-ignore lint/suspicious/noSparseArray: a hole is no name, and every() would not see it
  const holed = [['a', , 'b']] as [unknown]
  test.each([
    [false],
    [null],
    [undefined],
    ['url'],
    [{ url: true }],
    [['a', 1]],
    holed,
    [{ '~standard': {} }],
  ])('refuses the rule %p and says how to withhold an event', (rule) => {
    expect(() => defineEvents({ 'build.done': rule } as never)).toThrow(/'build.done'.*leave its name out/)
  })

  test.each([[undefined], [null], ['e'], [['e']], [new Map([['e', true]])]])(
    'refuses %p for the rules',
    (rules) => {
      expect(() => defineEvents(rules as never)).toThrow('an object such as')
    },
  )

  test('sees only own names, also one called __proto__', () => {
    const inherited = Object.create({ secret: true }, { e: { value: true, enumerable: true } })
    expect(framed(inherited, { event: 'secret' })).toBe('unlisted')
    expect(framed(inherited, { event: 'e' })).toMatchObject({ text: expect.any(String) })
    expect(framed(JSON.parse('{"__proto__":true}'), { event: '__proto__' })).toMatchObject({
      text: expect.any(String),
    })
  })

  test('copies its rules, so that changing the object later lets nothing more through', () => {
    const fields = ['a']
    const rules: Record<string, string[] | true> = { e: fields }
    const whitelist = defineEvents(rules)
    fields.push('secret')
    rules.other = true
    expect(through(whitelist, { event: 'e', data: { a: 1, secret: 2 } })).toMatchObject({
      text: 'event: e\ndata: {"a":1}\n\n',
    })
    expect(through(whitelist, { event: 'other' })).toBe('unlisted')
  })

  test('extend makes a superset with new rules for old names, and leaves the original alone', () => {
    const viewer = defineEvents({ e: ['a'], f: true })
    const admin = viewer.extend({ e: ['a', 'ip'], secret: true })
    const data = { a: 1, ip: 2 }
    expect(through(admin, { event: 'e', data })).toMatchObject({
      text: 'event: e\ndata: {"a":1,"ip":2}\n\n',
    })
    expect(through(admin, { event: 'f' })).toMatchObject({ text: 'event: f\ndata: null\n\n' })
    expect(through(admin, { event: 'secret' })).toMatchObject({ text: expect.any(String) })
    expect(through(viewer, { event: 'e', data })).toMatchObject({
      text: 'event: e\ndata: {"a":1}\n\n',
    })
    expect(through(viewer, { event: 'secret' })).toBe('unlisted')
  })
})

test('ViewerEvent is the union of what can arrive', () => {
  const events = defineEvents({ progress: z.object({ percent: z.number() }), done: ['url'], clock: true })
  const admin = events.extend({ done: ['url', 'log'], secret: v.object({ a: v.string() }) })
  const arrives: ViewerEvent<typeof events>[] = [
    { event: 'progress', data: { percent: 1 }, id: '1' },
    { event: 'done', data: { url: 1 } },
    { event: 'clock', data: 'anything' },
    // @ts-expect-error not what the schema returns
    { event: 'progress', data: { percent: 'x' } },
    // @ts-expect-error a field that is not kept
    { event: 'done', data: { log: 1 } },
    // @ts-expect-error a name that is not listed
    { event: 'secret', data: { a: '' } },
  ]
  const arrivesAtAdmin: ViewerEvent<typeof admin>[] = [
    { event: 'done', data: { log: 1 } },
    { event: 'secret', data: { a: '' } },
    { event: 'clock', data: 1 },
  ]
  expect(arrives.length + arrivesAtAdmin.length).toBe(9)
})

function revokedProxy(): object {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}
