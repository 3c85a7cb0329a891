import type { StandardSchemaV1 } from '@standard-schema/spec'
import { badOption } from '../errors.js'
import { checkOptionNames } from '../option-names.js'
import { type CompiledRule, compileRule, type EventRule, type TextRule } from './event-rule.js'

/** The rules of a whitelist (allowlist), by event name. */
export type EventRules = Readonly<Record<string, EventRule>>

/** Options of {@link defineEvents}. */
export interface DefineEventsOptions {
  /**
   * Whether `error` and `open` may be listed. An EventSource fires events of these names itself (WHATWG HTML 9.2.2,
   * 9.2.3), so a page could not tell them apart. Set it for protocols that are read with fetch, such as Anthropic's,
   * whose failed answers end with `event: error`.
   *
   * @default false
   */
  allowReservedNames?: boolean | undefined
}

/** A whitelist made by {@link defineEvents}. Opaque: give it to `openSession`. */
export interface ViewerEvents<Rules extends EventRules = EventRules> {
  /**
   * A new whitelist with more events, for a role that sees more. A name that is already there gets the new
   * rule. This one stays as it is.
   *
   * @param options as for `defineEvents`; what is not given is as for this whitelist.
   * @throws TypeError as `defineEvents` does.
   */
  extend<const More extends EventRules>(
    more: More,
    options?: DefineEventsOptions,
  ): ViewerEvents<Omit<Rules, keyof More> & More>
  /** Carries the rules for {@link ViewerEvent}; never there at run time. */
  readonly '~rules'?: Rules
}

type DataOf<Rule> = Rule extends true
  ? unknown
  : Rule extends readonly (infer Field extends string)[]
    ? { readonly [Name in Field]?: unknown }
    : Rule extends StandardSchemaV1
      ? StandardSchemaV1.InferOutput<Rule>
      : Rule extends TextRule
        ? string
        : never

type RulesOf<Events> = Events extends { readonly '~rules'?: infer Rules } ? NonNullable<Rules> : never

/**
 * Everything that can arrive under a whitelist, as a union over the event names: give a front end
 * `ViewerEvent<typeof viewerEvents>`. `data` is typed as the schema returns it (JSON then makes a Date a string), and is a
 * string under `asText`.
 */
export type ViewerEvent<Events extends ViewerEvents> = {
  [Name in keyof RulesOf<Events> & string]: { event: Name; data: DataOf<RulesOf<Events>[Name]>; id?: string }
}[keyof RulesOf<Events> & string]

/** The rules of a whitelist, ready for use, by event name. */
export type CompiledRules = ReadonlyMap<string, CompiledRule>

/** Marks what `defineEvents` made, and finds its rules. `Symbol.for`, as the package may be loaded twice. */
const RULES = Symbol.for('express-sse-guard.rules')

/**
 * Defines what a viewer may see: event name -> rule. Whatever is not named here never reaches the wire.
 *
 * Only the object's own names count. The rules are copied: changing the object afterwards changes nothing.
 *
 * The name `message` is written without an `event:` line, which an EventSource reads as the same name (WHATWG HTML
 * 9.2.6).
 *
 * @throws TypeError if the rules are not an object; for a value that is no rule; for a name that is empty, has a control
 *   character or a line separator (parsers end a line there), or is `error` or `open` without `allowReservedNames`; and
 *   for an unknown option.
 */
export function defineEvents<const Rules extends EventRules>(
  rules: Rules,
  options: DefineEventsOptions = {},
): ViewerEvents<Rules> {
  const allowReservedNames = resolveOptions('defineEvents', options).allowReservedNames ?? false
  return createWhitelist(compileRules(rules, allowReservedNames), allowReservedNames)
}

/** The rules of a whitelist, or undefined if `events` did not come from `defineEvents`. */
export function rulesOf(events: unknown): CompiledRules | undefined {
  if (typeof events !== 'object' || events === null) return undefined
  return (events as { [RULES]?: CompiledRules })[RULES]
}

function createWhitelist<Rules extends EventRules>(rules: CompiledRules, allowReservedNames: boolean) {
  const whitelist: ViewerEvents<Rules> = {
    extend: (more, options = {}) => {
      const allow = resolveOptions('extend', options).allowReservedNames ?? allowReservedNames
      return createWhitelist(new Map([...rules, ...compileRules(more, allow)]), allow)
    },
  }
  Object.defineProperty(whitelist, RULES, { value: rules })
  return Object.freeze(whitelist)
}

const OPTION_NAMES = { allowReservedNames: true } as const

function resolveOptions(where: string, options: DefineEventsOptions): DefineEventsOptions {
  checkOptionNames<DefineEventsOptions>(where, options, OPTION_NAMES)
  const { allowReservedNames } = options
  if (allowReservedNames !== undefined && typeof allowReservedNames !== 'boolean') {
    throw badOption(`${where}: allowReservedNames`, allowReservedNames, 'true or false')
  }
  return options
}

function compileRules(rules: EventRules, allowReservedNames: boolean): Map<string, CompiledRule> {
  // A Map has no own property names: everything would be withheld.
  if (typeof rules !== 'object' || rules === null || Symbol.iterator in rules) {
    throw badOption('defineEvents: the object of rules', rules, "an object such as { 'build.done': ['url'] }")
  }
  return new Map(
    Object.entries(rules).map(([name, rule]) => {
      checkName(name, allowReservedNames)
      return [name, compileRule(name, rule)]
    }),
  )
}

/** The characters at which a parser may end a line: those of the standard, and those of Python's `str.splitlines`. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for.
const BREAKS_LINES = /[\u0000-\u001f\u007f\u0085\u2028\u2029]/

function checkName(name: string, allowReservedNames: boolean): void {
  if (name === '') throw badOption('defineEvents: an event name', name, 'a name of at least one character')
  if (BREAKS_LINES.test(name)) {
    throw badOption(
      'defineEvents: an event name',
      name,
      'a name without control characters and line separators, which would end its line',
    )
  }
  if (!allowReservedNames && (name === 'error' || name === 'open')) {
    throw badOption(
      'defineEvents: an event name',
      name,
      `another name, such as 'job.${name}': EventSource fires '${name}' itself. For a protocol that is read with fetch, ` +
        'set the option allowReservedNames',
    )
  }
}
