import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorCodes, errorNumber, TslirpError } from '../../src/embed/errors.ts';

test('the codes of errors are these, in this order, with numbers from -1', () => {
  // What was published once stays: add at the end, and never take away.
  assert.deepEqual(errorCodes, [
    ...['BAD_CONFIG', 'FD_INVALID', 'FD_UNSUPPORTED', 'PERMISSION', 'ADDRESS_IN_USE', 'SETTINGS_REJECTED'],
    ...['START_TIMEOUT', 'ABORTED', 'NOT_RUNNING', 'ALREADY_RUNNING', 'PROTOCOL', 'VERSION_MISMATCH'],
    ...['INTEGRITY', 'CHILD_EXITED', 'LIMIT', 'INTERNAL'],
  ]);
  assert.equal(errorNumber('BAD_CONFIG'), -1);
  assert.equal(errorNumber('INTERNAL'), -16);
});

test('what the guest may have chosen is escaped in a message', () => {
  const error = new TslirpError('INTERNAL', 'name \u001b[31m\nred é', { detail: { path: 'a.b' }, cause: 7 });
  assert.equal(error.message, 'name \\u001b[31m\\u000ared \\u00e9');
  assert.deepEqual(error.detail, { path: 'a.b' });
  assert.equal(error.cause, 7);
  assert.equal('cause' in new TslirpError('LIMIT', 'x'), false);
});
