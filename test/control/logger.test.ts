import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Logger } from '../../src/control/logger.ts';

describe('Logger', () => {
  test('R-01: a library that cannot be loaded costs no exception, whenever a line is written', () => {
    const logger = new Logger('info');
    // As if there were no descriptors left to read it with.
    logger.moveLibraries(dirname(fileURLToPath(new URL('../../package.json', import.meta.url))), '/nowhere');
    logger.activate();
    for (let i = 0; i < 1000; i++) assert.doesNotThrow(() => logger.log('error', `line ${i}`));
  });
});
