import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { eventually } from './support/eventually.js'

test('the first thing that `npm run demo` prints, behind the line of npm itself, is our greeting', async () => {
  const child = spawn('npm', ['run', 'demo'], {
    cwd: join(__dirname, '..'),
    env: { ...process.env, PORT: '0', npm_config_update_notifier: 'false' },
    // A group of its own, so that what npm has started ends with it.
    detached: true,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
    })
  }
  const ended = once(child, 'close')
  try {
    await eventually(() => output.includes('demo on http'))
  } finally {
    process.kill(-(child.pid as number), 'SIGTERM')
    await ended
  }
  const lines = output.split('\n').filter((line) => line !== '' && !line.startsWith('> '))
  expect(lines[0]).toMatch(/^express-sse-guard demo on http:\/\/localhost:\d+/)
})
