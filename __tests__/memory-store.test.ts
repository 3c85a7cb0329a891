import { MemoryStore } from 'express-sse-guard'

const store = new MemoryStore()

test('grants until the limit is held, then refuses and says how many are held', () => {
  expect(store.acquire('a', '1', 2)).toEqual({ granted: true, held: 1 })
  expect(store.acquire('a', '2', 2)).toEqual({ granted: true, held: 2 })
  expect(store.acquire('a', '3', 2)).toEqual({ granted: false, held: 2 })
  expect(store.count('a')).toBe(2)
})

test('grants a slot that is held already without counting it again, even at the limit', () => {
  expect(store.acquire('a', '1', 2)).toEqual({ granted: true, held: 2 })
  expect(store.acquire('a', '1', 0)).toEqual({ granted: true, held: 2 })
})

test('keeps what is held when a limit shrinks, and grants nothing until fewer are held', () => {
  expect(store.acquire('a', '3', 1)).toEqual({ granted: false, held: 2 })
})

test('releases by identity: twice, unknown or of another key does nothing', () => {
  store.release('a', '3')
  store.release('b', '1')
  store.release('a', '1')
  store.release('a', '1')
  expect(store.count('a')).toBe(1)
  store.acquire('a', '4', 2)
  store.release('a', '1')
  expect(store.count('a')).toBe(2)
})

test('leaves no entry behind for a key without slots', () => {
  store.release('a', '2')
  store.release('a', '4')
  store.acquire('refused', '5', 0)
  expect([store.count('a'), store.count('refused'), store.size]).toEqual([0, 0, 0])
})

test('keeps keys apart whatever they are called', () => {
  for (const key of ['__proto__', 'constructor', 'toString', ' ']) {
    expect(store.acquire(key, 'x', 1)).toEqual({ granted: true, held: 1 })
    store.release(key, 'x')
  }
  expect(store.size).toBe(0)
})
