/**
 * Whether a value is an object of no class, as `{}` makes it. By the shape of its prototype chain and not by identity,
 * as it may come from another realm.
 */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}
