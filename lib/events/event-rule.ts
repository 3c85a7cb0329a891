import type { StandardSchemaV1 } from '@standard-schema/spec'
import { isPlainObject, isPromise } from '../checks.js'
import { badOption } from '../errors.js'

/** A rule for JSON: what it keeps of a payload is written as one line of JSON. */
export type JsonRule = StandardSchemaV1 | readonly string[] | true

/** A rule made by {@link asText}. Opaque. */
export interface TextRule<Rule extends JsonRule = JsonRule> {
  /** The rule inside. */
  readonly '~text': Rule
}

/**
 * What a viewer may see of one event:
 * - a Standard Schema (zod, valibot, arktype, ...; sync or async): what it **returns** is written, so let it
 *   strip what it does not name. A payload it refuses is withheld.
 * - an array of field names: those top-level fields of the payload, own and not inherited. A payload that is no
 *   plain object is withheld.
 * - `true`: the whole payload.
 * - `asText(rule)`: what that rule keeps, as text instead of JSON.
 */
export type EventRule = JsonRule | TextRule

/** What a rule keeps of a payload, or that it refused the payload. */
export type RuleResult = { readonly ok: true; readonly value: unknown } | { readonly ok: false }

/** One rule, ready for use. */
export interface CompiledRule {
  /** Answers later if its schema is async. A schema that throws or rejects refuses the payload. */
  keep(data: unknown): RuleResult | Promise<RuleResult>
  /** Whether a string that it keeps is written as it stands. */
  readonly isText: boolean
}

/** Where a rule of `asText` keeps the rule inside. `Symbol.for`, as the package may be loaded twice. */
const TEXT_RULE = Symbol.for('express-sse-guard.textRule')

const A_RULE = 'a Standard Schema such as z.object({ … }), an array of field names, or true'

/**
 * Makes a rule whose kept value is written as text, for clients that do not read JSON: htmx, Turbo Streams, Datastar,
 * and the bare `[DONE]` that OpenAI clients wait for.
 *
 * A string is written as it stands, one `data: ` line for each of its lines (CR LF, CR and LF end a line, and the client
 * joins them with LF, WHATWG HTML 9.2.6). `undefined` is written as one empty `data:` line, anything else as JSON.
 *
 * @param rule what to keep of the payload: a Standard Schema, an array of field names, or `true`.
 * @throws TypeError for anything else, `asText(asText(rule))` included.
 */
export function asText<const Rule extends JsonRule>(rule: Rule): TextRule<Rule> {
  if (textRuleOf(rule)) throw badOption('asText: the rule', rule, `${A_RULE}, and asText only once`)
  const compiled = compileJsonRule(rule)
  if (!compiled) throw badOption('asText: the rule', rule, A_RULE)
  return Object.freeze({ '~text': rule, [TEXT_RULE]: compiled })
}

/**
 * Compiles the rule of one event name.
 *
 * @throws TypeError for a value that is no rule.
 */
export function compileRule(name: string, rule: unknown): CompiledRule {
  const textRule = textRuleOf(rule)
  if (textRule) return { keep: textRule.keep, isText: true }
  const compiled = compileJsonRule(rule)
  if (compiled) return compiled
  throw badOption(
    `defineEvents: the rule of '${name}'`,
    rule,
    `${A_RULE}, or asText() of one of these; to withhold an event, leave its name out`,
  )
}

function textRuleOf(rule: unknown): CompiledRule | undefined {
  if (typeof rule !== 'object' || rule === null) return undefined
  return (rule as { [TEXT_RULE]?: CompiledRule })[TEXT_RULE]
}

function compileJsonRule(rule: unknown): CompiledRule | undefined {
  if (rule === true) return { keep: keepAll, isText: false }
  // Copied first, as every() skips the holes of an array.
  const fields: unknown[] | undefined = Array.isArray(rule) ? [...rule] : undefined
  if (fields?.every((field) => typeof field === 'string')) return { keep: keepFields(fields), isText: false }
  if (isSchema(rule)) return { keep: keepValidated(rule), isText: false }
  return undefined
}

function isSchema(rule: unknown): rule is StandardSchemaV1 {
  // Arktype's schemas are functions.
  if ((typeof rule !== 'object' && typeof rule !== 'function') || rule === null) return false
  return typeof (rule as Partial<StandardSchemaV1>)['~standard']?.validate === 'function'
}

const REFUSED: RuleResult = Object.freeze({ ok: false })

function keepAll(data: unknown): RuleResult {
  return { ok: true, value: data }
}

function keepFields(fields: readonly string[]): CompiledRule['keep'] {
  return (data) => {
    if (!isPlainObject(data)) return REFUSED
    // Without a prototype, a field named __proto__ is a field like any other.
    const kept = Object.create(null)
    for (const field of fields) if (Object.hasOwn(data, field)) kept[field] = data[field]
    return { ok: true, value: kept }
  }
}

function keepValidated(schema: StandardSchemaV1): CompiledRule['keep'] {
  const toResult = (result: StandardSchemaV1.Result<unknown>): RuleResult =>
    result.issues ? REFUSED : { ok: true, value: result.value }
  return (data) => {
    try {
      const result = schema['~standard'].validate(data)
      // A foreign thenable may resolve twice or out of order; a promise of ours does not.
      return isPromise(result)
        ? Promise.resolve(result)
            .then(toResult)
            .catch(() => REFUSED)
        : toResult(result)
    } catch {
      return REFUSED
    }
  }
}
