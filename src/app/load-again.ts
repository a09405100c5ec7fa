import { fileURLToPath } from 'node:url';
import { packageRoot } from '../package-root.ts';

/** What hardly anybody needs: it loads the foreign function library into the main thread. */
export function loadAgain(): typeof import('./again.ts') {
  const { createRequire } = process.getBuiltinModule('node:module');
  const path = fileURLToPath(new URL('dist/bundle/again.cjs', packageRoot));
  return createRequire(import.meta.url)(path) as typeof import('./again.ts');
}
