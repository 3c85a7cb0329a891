import { MemoryStore } from 'express-sse-guard'

// That it keeps the contract of a store is tested in slot-store-contract.test.ts.

test('answers at once, without a promise', () => {
  const store = new MemoryStore()
  expect(store.acquire('a', '1', 1)).toEqual({ granted: true, held: 1 })
  expect(store.acquire('a', '2', 1)).toEqual({ granted: false, held: 1 })
  expect(store.count('a')).toBe(1)
  expect(store.release('a', '1')).toBeUndefined()
  expect(store.count('a')).toBe(0)
})

test('leaves no entry behind for a key without slots', () => {
  const store = new MemoryStore()
  for (const key of ['a', 'b', '__proto__']) store.acquire(key, key, 1)
  expect(store.size).toBe(3)
  store.acquire('refused', '1', 0)
  store.release('unknown', '1')
  for (const key of ['a', 'b', '__proto__']) store.release(key, key)
  expect(store.size).toBe(0)
})
