import express, { type Response } from 'express'

const HEADERS = {
  // All that the page needs comes from here, so whatever else gets into it is not run.
  'Content-Security-Policy':
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-cache',
}

/** Serves the files of the page. A browser asks each time whether they are still the same, and is told by ETag. */
export function servePage(folder: string) {
  return express.static(folder, { setHeaders: (res: Response) => res.set(HEADERS) })
}
