import { badOption, isStreamErrorCode, type StreamErrorCode, streamError } from '../lib/errors.js'

test.each<[StreamErrorCode, number]>([
  ['ERR_STREAM_LIMIT', 429],
  ['ERR_STREAM_NO_KEY', 401],
  ['ERR_STREAM_CAPACITY', 503],
  ['ERR_STREAM_STORE', 503],
  ['ERR_STREAM_METHOD', 405],
  ['ERR_STREAM_BAD_KEY', 500],
  ['ERR_STREAM_BAD_LIMIT', 500],
  ['ERR_STREAM_NO_WHITELIST', 500],
  ['ERR_STREAM_HEADERS_SENT', 500],
  ['ERR_STREAM_UNCHECKED', 500],
  ['ERR_STREAM_WITHHELD', 500],
])('%s is a %d, and exposed only if it is the fault of the client', (code, status) => {
  expect(streamError(code, 'Why')).toMatchObject({ code, status, message: 'Why', expose: status < 500 })
})

test.each([['toString'], ['ERR_STREAM'], [['ERR_STREAM_LIMIT']], [undefined]])(
  '%p is no code of ours',
  (code) => {
    expect(isStreamErrorCode(code)).toBe(false)
  },
)

test.each([
  ['x'.repeat(1000), 150],
  [Array(1000).fill('x'), 150],
  [{ secret: 'TOPSECRET' }, 80],
])('an option that cannot work is quoted in short', (value, length) => {
  const { message } = badOption('here', value, 'something else')
  expect(message).toMatch(/^here is .*; give something else$/)
  expect([message.length < length, message.includes('TOPSECRET')]).toEqual([true, false])
})
