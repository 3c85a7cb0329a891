import type { StandardSchemaV1 } from '@standard-schema/spec'
import { badOption } from '../errors.js'
import { isPlainObject } from '../is-plain-object.js'
import { isPromise } from '../is-promise.js'

/**
 * What a viewer may see of one event:
 * - a Standard Schema (zod, valibot, arktype, ...; sync or async): what it **returns** is written, so let it
 *   strip what it does not name. A payload it refuses is withheld.
 * - an array of field names: those top-level fields of the payload, of its own and not inherited. A payload
 *   that is no plain object is withheld.
 * - `true`: the whole payload.
 */
export type EventRule = StandardSchemaV1 | readonly string[] | true

/** The rules of a whitelist, by event name. */
export type EventRules = Readonly<Record<string, EventRule>>

/** A whitelist made by {@link defineEvents}. Opaque: give it to `openSession`. */
export interface ViewerEvents<Rules extends EventRules = EventRules> {
  /**
   * A new whitelist with more events, for a role that sees more. A name that is already there gets the new
   * rule. This one stays as it is.
   *
   * @throws TypeError as `defineEvents` does.
   */
  extend<const More extends EventRules>(more: More): ViewerEvents<Omit<Rules, keyof More> & More>
  /** Carries the rules for {@link ViewerEvent}; never there at run time. */
  readonly '~rules'?: Rules
}

type DataOf<Rule> = Rule extends true
  ? unknown
  : Rule extends readonly (infer Field extends string)[]
    ? { readonly [Name in Field]?: unknown }
    : Rule extends StandardSchemaV1
      ? StandardSchemaV1.InferOutput<Rule>
      : never

type RulesOf<Events> = Events extends { readonly '~rules'?: infer Rules } ? NonNullable<Rules> : never

/**
 * Everything that can arrive under a whitelist, as a union over the event names: give a front end
 * `ViewerEvent<typeof viewerEvents>`. `data` is typed as the schema returns it; JSON then makes a Date a string.
 */
export type ViewerEvent<Events extends ViewerEvents> = {
  [Name in keyof RulesOf<Events> & string]: { event: Name; data: DataOf<RulesOf<Events>[Name]>; id?: string }
}[keyof RulesOf<Events> & string]

/**
 * One rule, ready for use: hands what may be written of a payload to `write` and answers with its answer, or
 * with 'invalid' if the rule refuses the payload; later, if its schema is async. What it throws refuses too.
 */
export type Projection = <Written>(
  data: unknown,
  write: (kept: unknown) => Written,
) => Written | 'invalid' | PromiseLike<Written | 'invalid'>

/** Marks what `defineEvents` made, and finds its projections, also when the package is loaded twice. */
const PROJECTIONS = Symbol.for('express-sse-guard.projections')

/**
 * Defines what a viewer may see: event name -> rule. Whatever is not named here never reaches the wire.
 *
 * Only the object's own names count. The rules are copied: changing the object afterwards changes nothing.
 *
 * @throws TypeError for no object; a rule that is none; and a name that is empty, contains CR, LF or NUL (they
 *   would end the line that carries it, WHATWG HTML 9.2.6), or is `error` or `open`: EventSource fires events
 *   of these names itself (9.2.2, 9.2.3), and a page could not tell them apart.
 */
export function defineEvents<const Rules extends EventRules>(rules: Rules): ViewerEvents<Rules> {
  return createWhitelist(compileRules(rules))
}

/** The projections of a whitelist, or undefined if `events` is none. */
export function projectionsOf(events: unknown): ReadonlyMap<string, Projection> | undefined {
  if (typeof events !== 'object' || events === null) return undefined
  return (events as { [PROJECTIONS]?: ReadonlyMap<string, Projection> })[PROJECTIONS]
}

function createWhitelist<Rules extends EventRules>(projections: ReadonlyMap<string, Projection>) {
  const whitelist: ViewerEvents<Rules> = {
    extend: (more) => createWhitelist(new Map([...projections, ...compileRules(more)])),
  }
  Object.defineProperty(whitelist, PROJECTIONS, { value: projections })
  return Object.freeze(whitelist)
}

function compileRules(rules: EventRules): Map<string, Projection> {
  // A Map has no names of its own: everything would be withheld.
  if (typeof rules !== 'object' || rules === null || Symbol.iterator in rules) {
    throw badOption('defineEvents: the rules', rules, "an object such as { 'build.done': ['url'] }")
  }
  return new Map(
    Object.entries(rules).map(([name, rule]) => {
      checkName(name)
      return [name, compileRule(name, rule)]
    }),
  )
}

function checkName(name: string): void {
  if (name === '') throw badOption('defineEvents: an event name', name, 'a name of at least one character')
  if (/[\r\n\0]/.test(name)) {
    throw badOption(
      'defineEvents: an event name',
      name,
      'a name without CR, LF and NUL, which would end its line',
    )
  }
  if (name === 'error' || name === 'open') {
    throw badOption(
      'defineEvents: an event name',
      name,
      `another name, such as 'job.${name}': EventSource fires '${name}' itself`,
    )
  }
}

function compileRule(name: string, rule: unknown): Projection {
  if (rule === true) return keepAll
  // Copied first, as every() does not look into the holes of an array.
  const fields: unknown[] | undefined = Array.isArray(rule) ? [...rule] : undefined
  if (fields?.every((field) => typeof field === 'string')) return keepFields(fields)
  if (isSchema(rule)) return keepValidated(rule)
  throw badOption(
    `defineEvents: the rule of '${name}'`,
    rule,
    'a Standard Schema (z.object({ … }), say), an array of field names, or true; to withhold an event, leave its name out',
  )
}

function isSchema(rule: unknown): rule is StandardSchemaV1 {
  // Arktype's schemas are functions.
  if ((typeof rule !== 'object' && typeof rule !== 'function') || rule === null) return false
  return typeof (rule as Partial<StandardSchemaV1>)['~standard']?.validate === 'function'
}

const keepAll: Projection = (data, write) => write(data)

function keepFields(fields: readonly string[]): Projection {
  return (data, write) => {
    if (!isPlainObject(data)) return 'invalid'
    // Without a prototype, a field named __proto__ is a field like any other.
    const kept = Object.create(null)
    for (const field of fields) if (Object.hasOwn(data, field)) kept[field] = data[field]
    return write(kept)
  }
}

function keepValidated(schema: StandardSchemaV1): Projection {
  return (data, write) => {
    const settle = (result: StandardSchemaV1.Result<unknown>) =>
      result.issues ? 'invalid' : write(result.value)
    const result = schema['~standard'].validate(data)
    // Through a promise of our own: what somebody else's `then` returns may be anything, and would be the frame.
    return isPromise(result) ? Promise.resolve(result).then(settle) : settle(result)
  }
}
