import { runInNewContext } from 'node:vm'
import { type } from 'arktype'
import { defineEvents, type EventRules, type ViewerEvent, type ViewerEvents } from 'express-sse-guard'
import * as v from 'valibot'
import { z } from 'zod'
import { frameEvent } from '../lib/stream/frame-event.js'
import { projectionsOf } from '../lib/stream/viewer-events.js'

/** What one event becomes under a whitelist. */
function through(whitelist: ViewerEvents, item: unknown) {
  const projections = projectionsOf(whitelist)
  if (!projections) throw new Error('not a whitelist')
  return frameEvent(projections, item)
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
    [{ event: '' }, 'unlisted'],
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

  test('has an id line only if it has an id, which may be empty or begin with a space', () => {
    const text = (id?: string) => framed(rules, { event: 'e', data: 1, id })
    expect(text()).toMatchObject({ text: 'event: e\ndata: 1\n\n' })
    expect(text('')).toMatchObject({ text: 'event: e\nid: \ndata: 1\n\n' })
    expect(text(' 7')).toMatchObject({ text: 'event: e\nid:  7\ndata: 1\n\n' })
  })

  test('stays one line whatever its payload contains', () => {
    const data = 'a\r\nb\rc\nd\u2028e\0\n\nevent: admin\ndata: 1\n\n'
    expect(written(true, data)).toBe(`event: e\ndata: ${JSON.stringify(data)}\n\n`)
  })
})

describe('defineEvents', () => {
  test.each([
    ['', 'at least one character'],
    ['a\nb', 'CR, LF and NUL'],
    ['a\rb', 'CR, LF and NUL'],
    ['a\0b', 'CR, LF and NUL'],
    ['error', "EventSource fires 'error' itself"],
    ['open', "EventSource fires 'open' itself"],
  ])('refuses the name %j and says why', (name, reason) => {
    expect(() => defineEvents({ [name]: true })).toThrow(reason)
    expect(() => defineEvents({}).extend({ [name]: true })).toThrow(reason)
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
