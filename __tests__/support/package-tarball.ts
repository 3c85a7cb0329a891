import { execFile } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

export const REPO = realpathSync(join(__dirname, '../..'))

/** Everything the build reads and everything the tarball must hold. */
const SOURCES = [
  'package.json',
  'tsconfig.json',
  'tsdown.config.ts',
  'lib',
  'scripts',
  'README.md',
  'LICENSE',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'docs',
]

/** What a user of the package has installed next to it. */
const INSTALLED = [
  'express',
  'express-rate-limit',
  'ai',
  'better-sse',
  'http-errors',
  'zod',
  'redis',
  'ioredis',
  'tsx',
  'typescript',
  '@types/node',
  '@types/express',
]

const run = promisify(execFile)

/** A build of the package, packed, and installed where projects can use it as their users would. */
export interface PackedPackage {
  /** The paths in the tarball. */
  readonly files: readonly string[]
  /** Where the tarball was unpacked. */
  readonly folder: string
  /**
   * Makes a folder in which the package can be imported by its name.
   *
   * @param packages what this folder has installed under a name instead of what all have: name -> package of the repository.
   */
  project(name: string, files: Record<string, string>, packages?: Record<string, string>): string
  /** Runs Node in such a folder and resolves with what it wrote; rejects, with that, if it fails. */
  node(folder: string, ...args: string[]): Promise<string>
  /** Deletes everything again. */
  remove(): void
}

/**
 * Builds and packs a copy of the sources, outside of the repository, so that nothing there changes under other
 * tests. The installed packages are links to those of the repository: nothing is downloaded.
 */
export async function packPackage(): Promise<PackedPackage> {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'packed-')))
  const remove = () => rmSync(root, { recursive: true, force: true })
  try {
    const source = join(root, 'source')
    const modules = join(root, 'projects/node_modules')
    const folder = join(modules, 'express-sse-guard')
    for (const name of SOURCES) {
      if (existsSync(join(REPO, name))) cpSync(join(REPO, name), join(source, name), { recursive: true })
    }
    link(join(REPO, 'node_modules'), join(source, 'node_modules'))
    for (const name of INSTALLED) link(join(REPO, 'node_modules', name), join(modules, name))

    const env = { ...process.env, npm_config_offline: 'true', npm_config_update_notifier: 'false' }
    await run('npm', ['pack', '--pack-destination', root], { cwd: source, env, timeout: 120_000 })
    const { name, version } = require(join(source, 'package.json'))
    const tarball = join(root, `${name}-${version}.tgz`)
    mkdirSync(folder, { recursive: true })
    await run('tar', ['-xzf', tarball, '-C', folder, '--strip-components=1'])
    const { stdout } = await run('tar', ['-tzf', tarball])

    return {
      files: stdout
        .trim()
        .split('\n')
        .map((file) => file.replace(/^package\//, '')),
      folder,
      project: (name, files, packages = {}) => {
        const project = join(root, 'projects', name)
        for (const [as, installed] of Object.entries(packages)) {
          link(join(REPO, 'node_modules', installed), join(project, 'node_modules', as))
        }
        for (const [file, text] of Object.entries(files)) {
          mkdirSync(dirname(join(project, file)), { recursive: true })
          writeFileSync(join(project, file), text)
        }
        return project
      },
      node: async (cwd, ...args) => {
        try {
          return (await run(process.execPath, args, { cwd, timeout: 120_000 })).stdout
        } catch (error) {
          const { stdout, stderr, message } = error as Error & { stdout: string; stderr: string }
          throw new Error(`${message}\n${stdout}\n${stderr}`)
        }
      },
      remove,
    }
  } catch (error) {
    remove()
    throw error
  }
}

function link(target: string, path: string): void {
  mkdirSync(dirname(path), { recursive: true })
  symlinkSync(target, path, 'junction')
}
