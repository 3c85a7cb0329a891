/** A fenced code block of a Markdown text. */
export interface CodeBlock {
  /** The word after the fence: `js`, `sh`. */
  language: string
  code: string
  /** The line of the text on which the code begins, counted from 1. */
  line: number
}

/** All fenced code blocks of a Markdown text. */
export function readCodeBlocks(markdown: string): CodeBlock[] {
  return [...markdown.matchAll(/^([ \t]*)```([^\s`]*).*\n([\s\S]*?)^\1```[ \t]*$/gm)].map((match) => ({
    language: match[2] ?? '',
    code: match[3] ?? '',
    line: markdown.slice(0, match.index).split('\n').length + 1,
  }))
}

/** The first `curl` of some shell code that says who is asking: its Authorization header and its path. */
export function readCurl(shell: string): { authorization: string; path: string } | undefined {
  for (const [line] of shell.replaceAll('\\\n', ' ').matchAll(/\bcurl\b.*/g)) {
    const authorization = /(['"])Authorization: *(.*?)\1/i.exec(line)?.[2]
    const path = /\blocalhost:\d+(\/[^\s'"&;|)]*)/.exec(line)?.[1]
    if (authorization && path) return { authorization, path }
  }
  return undefined
}

/** The package scripts that shell code runs: `npm test`, `npm run check`. */
export function readNpmScripts(shell: string): string[] {
  return [...shell.matchAll(/\bnpm (?:(?:run|run-script)(?: -\S+)* ([\w:.-]+)|(test|start)\b)/g)].map(
    ([, script, short]) => script ?? short ?? '',
  )
}

/** The names that a program declares at its top level, one to a line as in `const app = express()`. */
export function readDeclaredNames(program: string): string[] {
  return [...program.matchAll(/^(?:const|let|class|(?:async )?function\s*\*?)\s*([\w$]+)/gm)].map(
    ([, name]) => name ?? '',
  )
}
