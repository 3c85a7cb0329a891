import { ServerResponse } from 'node:http'

/**
 * `WRITE_MODE=wrapped` runs the tests as if middleware had wrapped `res.write` of every response, so that no chunk is framed by
 * this package. After the imports of a test file, as what stands there at import counts as Node's own.
 */
if (process.env.WRITE_MODE === 'wrapped') {
  const { write } = ServerResponse.prototype
  beforeAll(() => {
    ServerResponse.prototype.write = function (this: ServerResponse, ...args: Parameters<typeof write>) {
      return write.apply(this, args)
    } as typeof write
  })
  afterAll(() => {
    ServerResponse.prototype.write = write
  })
}
