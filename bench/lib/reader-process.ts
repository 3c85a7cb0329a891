// The reader: one process for all servers, which are measured one after another.
import { Reader } from './reader.js'
import { serveParent } from './remote-process.js'
import type { Target } from './stream-viewer.js'

/** One for each server. */
const readers = new Map<string, Reader>()

function readerOf(subject: string): Reader {
  const reader = readers.get(subject) ?? new Reader()
  readers.set(subject, reader)
  return reader
}

const methods = {
  open: (subject: string, target: Target, count: number, index: number) =>
    readerOf(subject).open(target, count, index),
  read: (subject: string, perStream: number) => readerOf(subject).read(perStream),
  readComments: (subject: string, perStream: number) => readerOf(subject).readComments(perStream),
  close: (subject: string) => readerOf(subject).close(),
  openAndLeave: (target: Target, times: number) => new Reader().openAndLeave(target, times),
  readAnswer: (target: Target, tokens: number) => new Reader().readAnswer(target, tokens),
}
export type ReaderMethods = typeof methods

serveParent(methods)
