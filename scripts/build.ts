import { build } from 'tsdown'

// Through the API, as the command line of tsdown prints a warning about Node 20 before everything else.
await build({ logLevel: 'warn' })
